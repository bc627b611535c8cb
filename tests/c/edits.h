/* One random edit on a packet, and what must hold after any edit: shared by test_edit.c and the
 * fuzz target. */
#ifndef OKO_EDITS_H
#define OKO_EDITS_H

#include "edit.h"

#include <string.h>

enum { N_EDIT_VERBS = 13 };

/* Carries out verb (0..N_EDIT_VERBS-1) with the given field and 16 random bytes. */
static inline int random_edit(struct oko_pkt *pkt, struct oko_key *key, uint32_t verb,
                              uint32_t field, const uint8_t bytes[16], const uint8_t mask[16])
{
    switch (verb) {
    case 0:
        return oko_edit_push_vlan(pkt, key, bytes[0] & 1 ? 0x8100 : 0x88a8);
    case 1:
        return oko_edit_pop_vlan(pkt, key);
    case 2:
        return oko_edit_push_mpls(pkt, key, bytes[0] & 1 ? 0x8847 : 0x8848);
    case 3:
        return oko_edit_pop_mpls(pkt, key,
                                 (uint16_t[]){0x0800, 0x86dd, 0x8847, 0x0806}[bytes[0] % 4]);
    case 4:
        return oko_edit_push_pbb(pkt, key, 0x88e7);
    case 5:
        return oko_edit_pop_pbb(pkt, key);
    case 6:
        return oko_edit_set_mpls_ttl(pkt, key, bytes[0]);
    case 7:
        return oko_edit_dec_mpls_ttl(pkt, key);
    case 8:
        return oko_edit_set_ttl(pkt, key, bytes[0]);
    case 9:
        return oko_edit_dec_ttl(pkt, key);
    case 10:
        return oko_edit_copy_ttl_out(pkt, key);
    case 11:
        return oko_edit_copy_ttl_in(pkt, key);
    default: {
        uint8_t value[16];
        for (int i = 0; i < 16; i++)
            value[i] = bytes[i] & mask[i];
        return oko_edit_set_field(pkt, key, field, value, mask);
    }
    }
}

/* The key and the offsets are what the parser finds in the frame; registers are not looked at. */
static inline bool in_step(const struct oko_pkt *pkt, const struct oko_key *key)
{
    struct oko_pkt again = *pkt;
    struct oko_key fresh = *key;

    oko_reparse(&again, &fresh);
    return !memcmp(&fresh, key, sizeof fresh) && again.n_vlans == pkt->n_vlans &&
           again.l2_5 == pkt->l2_5 && again.l3 == pkt->l3 && again.l4 == pkt->l4;
}

#endif
