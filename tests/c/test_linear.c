/* Linear forms and relations against enumeration: a few values of small range, every assignment of
 * which is known.
 *
 * The twin keeps the list of assignments that satisfy everything assumed so far. What a relation
 * proves must hold for all of them, its bounds must contain them, what it calls contradictory must
 * leave none; and what remains after forgetting must hold for what they say of the other values.
 * Nothing here shares a line with linear.c. */
#include "bpf/verify/linear.h"
#include "check.h"

#include <string.h>

enum {
    N_IDS = 4,
    LEAST = -3,
    MOST = 3,
    SPAN = MOST - LEAST + 1,
    N_ALL = SPAN * SPAN * SPAN * SPAN
};

static uint64_t seed = 1;

static uint32_t draw(uint32_t below)
{
    return (uint32_t)(next_random(&seed) % below);
}

static int64_t value_of(int assignment, uint32_t id)
{
    for (uint32_t i = 1; i < id; i++)
        assignment /= SPAN;
    return assignment % SPAN + LEAST;
}

static oko_wide evaluate(const struct oko_form *form, int assignment)
{
    oko_wide sum = form->c;
    for (uint32_t i = 0; i < form->n; i++)
        sum += (oko_wide)form->coeff[i] * value_of(assignment, form->id[i]);
    return sum;
}

static struct oko_form random_form(void)
{
    struct oko_form form = oko_form_const((int64_t)draw(13) - 6);
    uint32_t n = 1 + draw(3);
    for (uint32_t i = 0; i < n; i++) {
        struct oko_form id = oko_form_id(1 + draw(N_IDS));
        CHECK(oko_form_add(&form, &form, (int64_t)draw(5) - 2, &id));
    }
    return form;
}

/* ---------------------------------------------------------------- forms */

static void test_forms(void)
{
    for (int round = 0; round < 20000; round++) {
        struct oko_form a = random_form(), b = random_form(), sum, exact;
        int64_t k = (int64_t)draw(9) - 4;
        int assignment = (int)draw(N_ALL);
        CHECK(oko_form_add(&sum, &a, k, &b) && oko_form_add_exact(&exact, &a, k, &b));
        CHECK(evaluate(&sum, assignment) ==
              evaluate(&a, assignment) + k * evaluate(&b, assignment));
        CHECK(oko_form_equal(&sum, &exact));
        for (uint32_t i = 0; i < sum.n; i++) { /* ascending, and no term for nothing */
            CHECK(sum.coeff[i] != 0 && (i == 0 || sum.id[i - 1] < sum.id[i]));
            CHECK(oko_form_coeff(&sum, sum.id[i]) == sum.coeff[i]);
        }
        CHECK(oko_form_coeff(&sum, N_IDS + 1) == 0);
        bool same = true;
        for (uint32_t id = 1; id <= N_IDS; id++)
            same &= oko_form_coeff(&a, id) == oko_form_coeff(&b, id);
        CHECK(oko_form_equal(&a, &b) == (same && a.c == b.c));
    }
}

static void test_what_does_not_fit(void)
{
    struct oko_form sum = oko_form_const(0), id, big = oko_form_id(1), limit;
    for (uint32_t i = 1; i <= OKO_FORM_TERMS; i++) {
        id = oko_form_id(i);
        CHECK(oko_form_add(&sum, &sum, 1, &id));
    }
    id = oko_form_id(OKO_FORM_TERMS + 1);
    CHECK(!oko_form_add(&sum, &sum, 1, &id)); /* too many terms */
    id = oko_form_id(3);
    CHECK(oko_form_add(&sum, &sum, -1, &id) && sum.n == OKO_FORM_TERMS - 1);

    CHECK(oko_form_add(&limit, &big, ((int64_t)1 << 40) - 1, &big));
    CHECK(!oko_form_add(&limit, &big, (int64_t)1 << 41, &big)); /* too large a coefficient */

    struct oko_form most = oko_form_const(INT64_MAX), one = oko_form_const(1);
    CHECK(oko_form_add(&sum, &most, 1, &one) && sum.c == INT64_MIN); /* modulo 2^64 */
    CHECK(!oko_form_add_exact(&sum, &most, 1, &one));
    CHECK(!oko_form_add_exact(&sum, &most, 2, &most));
}

/* ---------------------------------------------------------------- relations */

struct twin {
    bool alive[N_ALL];
    int n;
};

/* A form about which the relation may know something: a sum of what it holds, or any. */
static struct oko_form likely(const struct oko_rel *rel)
{
    struct oko_form form = random_form(), sum;
    if (rel->n_cons == 0 || draw(2) == 0)
        return form;
    form = rel->con[draw(rel->n_cons)];
    if (draw(2) == 0 && oko_form_add_exact(&sum, &form, 1, &rel->con[draw(rel->n_cons)]))
        form = sum;
    form.c -= (int64_t)draw(4) - 1;
    return form;
}

/* What the relation says of a form, against all assignments that are left. */
static void compare(struct oko_rel *rel, const struct twin *twin, int *n_proved)
{
    for (int round = 0; round < 12; round++) {
        struct oko_form form = likely(rel);
        oko_wide lo, hi, most = -1000, least = 1000;
        bool proved = oko_rel_proves(rel, &form);
        oko_rel_bounds(rel, &form, &lo, &hi);
        int depth = (int)draw(3);
        oko_wide upper = oko_rel_upper(rel, &form, depth), lower = oko_rel_lower(rel, &form, depth);
        for (int a = 0; a < N_ALL; a++) {
            oko_wide v;
            if (!twin->alive[a])
                continue;
            v = evaluate(&form, a);
            most = v > most ? v : most;
            least = v < least ? v : least;
        }
        if (twin->n == 0)
            return;
        CHECK(!proved || most <= 0);
        CHECK(lo <= least && most <= hi);
        CHECK(lower <= least && most <= upper);
        CHECK(lo <= lower && upper <= hi); /* inequalities only sharpen */
        *n_proved += proved && hi > 0;     /* by more than intervals */
    }
    for (uint32_t id = 1; id <= N_IDS; id++) {
        const struct oko_bound *bound = oko_rel_id(rel, id);
        CHECK(bound != NULL);
        for (int a = 0; a < N_ALL; a++)
            CHECK(!twin->alive[a] ||
                  (bound->lo <= value_of(a, id) && value_of(a, id) <= bound->hi));
    }
}

static void keep_if(struct twin *twin, const struct oko_form *con)
{
    for (int a = 0; a < N_ALL; a++)
        if (twin->alive[a] && evaluate(con, a) > 0) {
            twin->alive[a] = false;
            twin->n--;
        }
}

/* After forgetting, bounds and inequalities mention only what stays, and hold for what is left. */
static void forget(struct oko_rel *rel, const struct twin *twin)
{
    uint64_t keep = draw(1 << N_IDS);
    uint32_t n_kept = 0;
    bool stays[N_IDS + 1] = {false};
    for (uint32_t i = 0; i < rel->n_bounds; i++)
        if ((keep >> i & 1) != 0) {
            stays[rel->bound[i].id] = true;
            n_kept++;
        }
    oko_rel_forget(rel, &keep);
    CHECK(rel->n_bounds == n_kept);
    for (uint32_t i = 0; i < rel->n_cons; i++)
        for (uint32_t k = 0; k < rel->con[i].n; k++)
            CHECK(stays[rel->con[i].id[k]]);
    for (int a = 0; a < N_ALL; a++) {
        if (!twin->alive[a])
            continue;
        for (uint32_t i = 0; i < rel->n_cons; i++)
            CHECK(evaluate(&rel->con[i], a) <= 0);
        for (uint32_t i = 0; i < rel->n_bounds; i++) {
            int64_t v = value_of(a, rel->bound[i].id);
            CHECK(rel->bound[i].lo <= v && v <= rel->bound[i].hi);
        }
    }
}

static void test_relations(void)
{
    int n_proved = 0, n_contradictions = 0;
    for (int round = 0; round < 400; round++) {
        static struct twin twin;
        struct oko_rel rel;
        bool possible = true;
        oko_rel_init(&rel);
        memset(twin.alive, true, sizeof(twin.alive));
        twin.n = N_ALL;
        for (uint32_t id = 1; id <= N_IDS; id++)
            CHECK(oko_rel_add_id(&rel, id, LEAST, MOST));
        for (int step = 0; step < 6 && possible; step++) {
            if (draw(4) == 0) { /* an interval shrinks */
                uint32_t id = 1 + draw(N_IDS);
                int64_t lo = LEAST + (int64_t)draw(3), hi = MOST - (int64_t)draw(3);
                for (int a = 0; a < N_ALL; a++)
                    if (twin.alive[a] && (value_of(a, id) < lo || value_of(a, id) > hi)) {
                        twin.alive[a] = false;
                        twin.n--;
                    }
                possible = oko_rel_narrow(&rel, id, lo, hi);
            } else {
                struct oko_form con = random_form();
                keep_if(&twin, &con);
                possible = oko_rel_assume(&rel, &con);
            }
            CHECK(possible || twin.n == 0);
            n_contradictions += !possible;
            if (possible)
                compare(&rel, &twin, &n_proved);
        }
        if (possible)
            forget(&rel, &twin);
        oko_rel_destroy(&rel);
    }
    /* Soundness alone would be met by a relation that never says anything. */
    CHECK(n_proved > 500);
    CHECK(n_contradictions > 20);
}

/* ---------------------------------------------------------------- what programs rely on */

/* off + 20 <= len, where off = 14 + 4 * ihl, proves off + 4 + 16 <= len: clang's two registers. */
static void test_packet_idiom(void)
{
    struct oko_rel rel;
    struct oko_form len = oko_form_id(OKO_ID_LEN), ihl = oko_form_id(2), off, end, want;
    struct oko_form fourteen = oko_form_const(14), twenty = oko_form_const(20);
    struct oko_form more = oko_form_const(1);
    oko_rel_init(&rel);
    CHECK(oko_rel_add_id(&rel, OKO_ID_LEN, 0, 65535) && oko_rel_add_id(&rel, 2, 0, 15));
    CHECK(oko_form_add_exact(&off, &fourteen, 4, &ihl));
    CHECK(oko_form_add_exact(&end, &off, 1, &twenty) && oko_form_add_exact(&end, &end, -1, &len));
    CHECK(!oko_rel_proves(&rel, &end));
    CHECK(oko_rel_assume(&rel, &end));
    CHECK(oko_rel_proves(&rel, &end));
    CHECK(oko_rel_id(&rel, OKO_ID_LEN)->lo == 34); /* the shortest */
    CHECK(oko_form_add_exact(&want, &end, 1, &more) && !oko_rel_proves(&rel, &want));
    /* A transitive chain: x <= y, y <= z, so x <= z. */
    for (uint32_t id = 3; id <= 5; id++)
        CHECK(oko_rel_add_id(&rel, id, 0, 1000000));
    struct oko_form x = oko_form_id(3), y = oko_form_id(4), z = oko_form_id(5), xy, yz, xz;
    CHECK(oko_form_add_exact(&xy, &x, -1, &y) && oko_form_add_exact(&yz, &y, -1, &z));
    CHECK(oko_form_add_exact(&xz, &x, -1, &z));
    CHECK(!oko_rel_proves(&rel, &xz));
    CHECK(oko_rel_assume(&rel, &xy) && oko_rel_assume(&rel, &yz) && oko_rel_proves(&rel, &xz));
    oko_rel_destroy(&rel);
}

int main(void)
{
    test_forms();
    test_what_does_not_fit();
    test_relations();
    test_packet_idiom();
    return 0;
}
