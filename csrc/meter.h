/* Meters: token buckets on the datapath clock.
 *
 * A band's bucket holds up to burst seconds' worth, in units of a billionth packet (or kilobit):
 * every nanosecond adds `rate` units, a packet takes 10^9 (a bit takes 10^6), so that all is exact
 * integer arithmetic. A new bucket is full. Every band's bucket is charged with each packet that it
 * can cover; of the bands that cannot, the one with the highest rate applies (as Open vSwitch).
 *
 * Thread-safety: shared by all forwarding threads; a spin lock per meter. A packet older than the
 * newest one seen adds no tokens. A modified meter is a new one with full buckets. */
#ifndef OKO_METER_H
#define OKO_METER_H

#include "gc.h"
#include "oko.h"

struct oko_band {
    uint32_t type; /* enum oko_band_type */
    uint32_t rate;
    uint32_t burst;
    uint32_t prec_level;
    uint64_t tokens;
    struct oko_counts counts; /* packets that it applied to */
};

struct oko_meter {
    struct oko_gc gc;
    uint32_t id;
    uint32_t flags; /* enum oko_meter_flag */
    uint32_t n_bands;
    uint8_t lock;
    uint64_t created_ns;
    uint64_t last_ns; /* newest packet seen; 0 = none */
    struct oko_counts counts;
    struct oko_band band[];
};

int oko_meter_new(const struct oko_meter_spec *spec, struct oko_meter **meter,
                  struct oko_error *error);
/* Charges one packet; the band that applies, or NULL: the packet goes on as it is. */
const struct oko_band *oko_meter_run(struct oko_meter *meter, uint64_t now_ns, uint32_t wire_len);
/* Counters: the meter's, then each band's; counts has n_bands + 1 slots. */
void oko_meter_counts(struct oko_meter *meter, struct oko_counts *counts);
/* The DSCP after a remark: an assured-forwarding class keeps its class and gets up to prec_level
 * more drop precedence (RFC 2597); others stay. */
uint8_t oko_meter_remark(uint8_t dscp, uint32_t prec_level);

#endif
