/* Body of the maps' fuzz targets: the input is a sequence of operations on a map and its naive
 * twin (tests/c/map_drive.h). Each target defines FUZZ_TYPE. */
#include "map_drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    drive_map(FUZZ_TYPE, data, size);
    return 0;
}
