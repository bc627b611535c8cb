/* Which worker gets a packet: a fixed, unkeyed hash of its key, so that a run can be repeated.
 * (enum oko_spread in oko.h says what is hashed.) */
#ifndef OKO_SPREAD_H
#define OKO_SPREAD_H

#include "key.h"

/* 0..n_workers-1. key is parsed to OKO_LAYER_L4. */
uint32_t oko_spread_of(const struct oko_key *key, enum oko_spread spread, uint32_t n_workers);

#endif
