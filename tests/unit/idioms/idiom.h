/* What every idiom begins with. WRONG is 0 for the program that must be accepted; with WRONG 1 its
 * proof has a hole (mostly by one byte), and it must be refused. */
#include "oko_parse.h"

#ifndef WRONG
#define WRONG 0
#endif
