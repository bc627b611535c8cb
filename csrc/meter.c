/* Meters; see meter.h. */
#include "meter.h"

#include "base/atomic.h"
#include "base/err.h"

#include <stdlib.h>

#define SECOND 1000000000u

int oko_meter_new(const struct oko_meter_spec *spec, struct oko_meter **out,
                  struct oko_error *error)
{
    uint32_t unit = spec->flags & (OKO_METER_KBPS | OKO_METER_PKTPS);
    if (spec->id == 0 || spec->id > 0xffff0000u)
        return oko_err(error, OKO_E_INVAL, "meter: 0x%x is not a meter number", spec->id);
    if (unit != OKO_METER_KBPS && unit != OKO_METER_PKTPS)
        return oko_err(error, OKO_E_INVAL, "meter %u: either kbps or pktps", spec->id);
    if (spec->n_bands > 256)
        return oko_err(error, OKO_E_LIMIT, "meter %u: more than 256 bands", spec->id);
    struct oko_meter *meter = calloc(1, sizeof *meter + spec->n_bands * sizeof meter->band[0]);
    if (!meter)
        return oko_err(error, OKO_E_NOMEM, "meter %u: out of memory", spec->id);
    meter->id = spec->id;
    meter->flags = spec->flags;
    meter->n_bands = spec->n_bands;
    for (uint32_t i = 0; i < spec->n_bands; i++) {
        const struct oko_band_spec *from = &spec->bands[i];
        struct oko_band *band = &meter->band[i];
        if (from->type != OKO_BAND_DROP && from->type != OKO_BAND_DSCP_REMARK) {
            free(meter);
            return oko_err(error, OKO_E_INVAL, "meter %u: there is no band type %u", spec->id,
                           from->type);
        }
        bool given = spec->flags & OKO_METER_BURST && from->burst;
        band->type = from->type;
        band->rate = from->rate;
        band->burst = given ? from->burst : from->rate;
        band->prec_level = from->prec_level;
        band->tokens = (uint64_t)band->burst * SECOND;
    }
    *out = meter;
    return 0;
}

/* Tokens that a bucket has after elapsed more nanoseconds. */
static uint64_t filled(const struct oko_band *band, uint64_t elapsed)
{
    uint64_t full = (uint64_t)band->burst * SECOND;
    if (band->rate == 0)
        return band->tokens;
    if (elapsed > (full - band->tokens) / band->rate)
        return full;
    return band->tokens + elapsed * band->rate;
}

const struct oko_band *oko_meter_run(struct oko_meter *meter, uint64_t now_ns, uint32_t wire_len)
{
    bool packets = meter->flags & OKO_METER_PKTPS;
    uint64_t cost = packets ? SECOND : (uint64_t)wire_len * 8 * (SECOND / 1000);
    struct oko_band *applies = NULL;

    oko_spin_lock(&meter->lock);
    uint64_t elapsed = meter->last_ns && now_ns > meter->last_ns ? now_ns - meter->last_ns : 0;
    if (now_ns > meter->last_ns)
        meter->last_ns = now_ns;
    meter->counts.packets++;
    meter->counts.bytes += wire_len;
    for (uint32_t i = 0; i < meter->n_bands; i++) {
        struct oko_band *band = &meter->band[i];
        band->tokens = filled(band, elapsed);
        if (band->tokens >= cost)
            band->tokens -= cost;
        else if (!applies || band->rate > applies->rate)
            applies = band;
    }
    if (applies) {
        applies->counts.packets++;
        applies->counts.bytes += wire_len;
    }
    oko_spin_unlock(&meter->lock);
    return applies;
}

void oko_meter_counts(struct oko_meter *meter, struct oko_counts *counts)
{
    oko_spin_lock(&meter->lock);
    counts[0] = meter->counts;
    for (uint32_t i = 0; i < meter->n_bands; i++)
        counts[i + 1] = meter->band[i].counts;
    oko_spin_unlock(&meter->lock);
}

uint8_t oko_meter_remark(uint8_t dscp, uint32_t prec_level)
{
    uint32_t class = dscp >> 3, precedence = dscp >> 1 & 3;
    if (dscp & 1 || class < 1 || class > 4 || precedence < 1)
        return dscp;
    precedence = prec_level > 3 - precedence ? 3 : precedence + prec_level;
    return (uint8_t)(class << 3 | precedence << 1);
}
