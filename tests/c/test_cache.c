/* How the cache of lookups stands aside while every packet is a new flow, and comes back.
 *
 * That its answers are right, whatever it has seen, is the business of test_bursts.c and of
 * tests/differential; this is about what it costs, counted in packets, never in time. */
#include "dp_kit.h"

enum { BURST = 32, WINDOW = 1024 /* lookups after which it judges */ };

/* So many masks, more than are asked directly, and one flow that everything takes; a packet's
 * source address is looked at in full. */
static struct oko_dp *new_dp(uint32_t n_masks)
{
    struct oko_dp *dp = kit_dp(1, 0, BURST);
    kit_ports(dp, 2);
    for (uint32_t i = 0; i + 1 < n_masks; i++)
        kit_add(dp, .priority = 9,
                .match = {{OKO_FIELD_ETH_TYPE, 0x800},
                          {OKO_FIELD_IPV4_SRC, 0xee000000, 0xff000000u | 0x00ffffffu >> i % 16},
                          {OKO_FIELD_IPV4_DST, 0xee000000, 0xff000000u | 0x00ffffffu >> i / 16}});
    kit_add(dp, .priority = 1, .output = 2);
    return dp;
}

/* Packets from `hosts` hosts in turn, from this one on. Adds up what the lookups were. */
static struct oko_dp_stats send(struct oko_dp *dp, uint32_t first, uint32_t hosts, uint32_t n)
{
    struct oko_dp_stats before, after;
    uint8_t frames[BURST][64];
    struct oko_frame in[BURST];
    CHECK(n % BURST == 0);
    oko_dp_stats(dp, &before);
    for (uint32_t k = 0; k < n; k += BURST) {
        for (uint32_t i = 0; i < BURST; i++) {
            kit_frame(frames[i], &(struct kit_udp){.src = first + (k + i) % hosts, .dst = 1});
            in[i] = (struct oko_frame){
                .data = frames[i], .len = 64, .in_port = 1, .ns = 1, .seq = k + i};
        }
        CHECK(oko_dp_process(dp, 0, in, BURST) == 0);
    }
    oko_dp_stats(dp, &after);
    after.direct -= before.direct;
    after.cache_hits -= before.cache_hits;
    after.cache_misses -= before.cache_misses;
    CHECK(after.direct + after.cache_hits + after.cache_misses == n);
    return after;
}

/* Every packet a new flow: it is asked about one in 16, then fewer and fewer. */
static void test_stands_aside(void)
{
    struct oko_dp *dp = new_dp(9);
    uint32_t host = 1;
    struct oko_dp_stats stats = send(dp, host, UINT32_MAX, 2 * WINDOW);
    CHECK(stats.cache_misses >= WINDOW && stats.cache_misses <= WINDOW + WINDOW / 8);
    stats = send(dp, host += 2 * WINDOW, UINT32_MAX, 512 * WINDOW);
    CHECK(stats.cache_misses < 512 * WINDOW / 64); /* some were still one in 16, in 32, in 64 */
    stats = send(dp, host += 512 * WINDOW, UINT32_MAX, 256 * WINDOW);
    CHECK(stats.cache_misses == WINDOW && stats.cache_hits == 0);
    CHECK(kit_tx(dp, 2) == 770 * WINDOW);
    oko_dp_free(dp);
}

/* After the attack the flows that are left are soon known. */
static void test_comes_back(void)
{
    struct oko_dp *dp = new_dp(9);
    send(dp, 1, UINT32_MAX, 512 * WINDOW);
    send(dp, 1u << 30, 100, 1024 * WINDOW);
    struct oko_dp_stats stats = send(dp, 1u << 30, 100, WINDOW);
    CHECK(stats.cache_hits == WINDOW);
    oko_dp_free(dp);
}

/* Known flows pay for asking about new ones if there are enough of them: nearly three quarters of
 * the packets with nine masks, a fifth with a hundred. */
static void test_known_flows_have_to_pay(void)
{
    static const struct {
        uint32_t masks, known; /* bursts of six */
        bool pays;
    } cases[] = {{9, 4, false}, {9, 5, true}, {100, 1, false}, {100, 2, true}};
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct oko_dp *dp = new_dp(cases[i].masks);
        uint64_t asked = 0, n = 0;
        for (uint32_t k = 0; k < 3000; k++) {
            struct oko_dp_stats stats = k % 6 < cases[i].known
                                            ? send(dp, 1u << 30, BURST, BURST)
                                            : send(dp, k * BURST, UINT32_MAX, BURST);
            asked += k >= 1000 ? stats.cache_hits + stats.cache_misses : 0;
            n += k >= 1000 ? BURST : 0;
        }
        CHECK(cases[i].pays ? asked == n : asked < n / 8);
        oko_dp_free(dp);
    }
}

int main(void)
{
    test_stands_aside();
    test_comes_back();
    test_known_flows_have_to_pay();
    printf("test_cache: ok\n");
    return 0;
}
