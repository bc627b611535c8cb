/* Programs by number: loaded, replaced, unloaded, and their maps replaced as a whole.
 *
 * A number stands for a slot, a slot of a view for an instance. To change either is to publish a
 * view, as with flows: a burst runs the old instance or the new one. Instances are made outside of
 * the mutex (verification takes up to a second), so when one is to take over maps of the instance
 * before it, that is looked at again under the mutex; if another change came first, it is made
 * anew from that. */
#include "base/err.h"
#include "commit.h"
#include "dp.h"

uint32_t oko_dp_slot(const struct oko_dp *dp, uint32_t number)
{
    for (uint32_t slot = 1; slot < dp->view->progs->n; slot++)
        if (dp->slots[slot].number == number)
            return slot;
    return 0;
}

struct oko_prog *oko_dp_prog(struct oko_dp *dp, uint32_t number)
{
    oko_dp_lock(dp);
    uint32_t slot = number ? oko_dp_slot(dp, number) : 0;
    struct oko_prog *prog = slot ? dp->view->progs->slot[slot] : NULL;
    if (prog)
        oko_prog_ref(prog);
    oko_dp_unlock(dp);
    return prog;
}

/* Gives back the memory of programs that were replaced; wait: until no burst has them any more. */
static void collect(struct oko_dp *dp, bool wait)
{
    if (wait)
        oko_qsbr_synchronize(dp->qsbr);
    oko_dp_lock(dp);
    oko_gc_poll(&dp->gc);
    oko_dp_unlock(dp);
}

/* Puts a program under its number, and takes the reference when that succeeds. OKO_E_BUSY: it was
 * made from an older instance, but that is not the one that is there any more. */
static int install(struct oko_dp *dp, uint32_t number, const struct oko_prog *older,
                   struct oko_prog *prog, bool *replaced, struct oko_error *error)
{
    struct oko_commit c;
    oko_dp_lock(dp);
    uint32_t slot = oko_dp_slot(dp, number);
    if (older && (!slot || dp->view->progs->slot[slot] != older)) {
        oko_dp_unlock(dp);
        return OKO_E_BUSY;
    }
    *replaced = slot != 0;
    for (uint32_t i = 1; !slot && i <= dp->opts.max_progs; i++)
        if (!dp->slots[i].number)
            slot = i;
    int rc = slot ? 0 : OKO_E_LIMIT;
    if (!rc) {
        oko_commit_begin(dp, oko_dp_now(dp), UINT32_MAX, &c);
        rc = oko_commit_prog(&c, slot, prog);
        if (rc)
            oko_commit_rollback(&c);
        else
            rc = oko_commit_publish(&c);
        if (!rc)
            dp->slots[slot].number = number;
    }
    oko_dp_unlock(dp);
    if (rc)
        oko_err(error, rc, rc == OKO_E_LIMIT ? "there are %u programs already" : "out of memory",
                dp->opts.max_progs);
    return rc;
}

/* One attempt; OKO_E_BUSY: what its maps were to be taken from was replaced meanwhile. */
static int load(struct oko_dp *dp, uint32_t number, const struct oko_prog_spec *spec,
                const struct oko_load_opts *opts, bool keep_maps, bool *replaced,
                struct oko_error *error)
{
    struct oko_prog *keep = keep_maps ? oko_dp_prog(dp, number) : NULL, *prog;
    int rc = oko_prog_load(dp->vm, spec, opts, keep, &prog, error);
    if (rc == OKO_E_NOMEM || rc == OKO_E_LIMIT) { /* what was replaced just now may still count */
        collect(dp, true);
        rc = oko_prog_load(dp->vm, spec, opts, keep, &prog, error);
    }
    if (!rc) {
        rc = install(dp, number, keep, prog, replaced, error);
        if (rc)
            oko_prog_unref(prog);
    }
    oko_prog_unref(keep);
    return rc;
}

int oko_dp_prog_load(struct oko_dp *dp, uint32_t number, const struct oko_prog_spec *spec,
                     const struct oko_load_opts *opts, bool keep_maps, bool *replaced,
                     struct oko_error *error)
{
    bool scratch;
    oko_err_clear(error);
    if (number == 0 || number > 65535)
        return oko_err(error, OKO_E_INVAL, "there is no program number %u", number);
    collect(dp, false);
    int rc;
    do
        rc = load(dp, number, spec, opts, keep_maps, replaced ? replaced : &scratch, error);
    while (rc == OKO_E_BUSY);
    return rc;
}

/* ---------------------------------------------------------------- replacing a map */

static int fill(struct oko_map *map, const uint8_t *entries, uint32_t n, struct oko_error *error)
{
    bool sketch = oko_map_is_sketch(map);
    uint32_t key_size = map->spec.key_size, value_size = sketch ? 0 : map->spec.value_size;
    if (sketch && key_size == 0)
        key_size = map->spec.value_size;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *key = entries + (size_t)i * (key_size + value_size);
        int rc = sketch ? oko_map_add(map, key) : oko_map_update(map, key, key + key_size, OKO_ANY);
        if (rc)
            return oko_err(error, rc, "map %.63s: entry %u of %u: %s", map->spec.name, i, n,
                           rc == OKO_E_FULL       ? "the map is full"
                           : rc == OKO_E_NOTFOUND ? "index out of range"
                                                  : "not a key of this map");
    }
    return 0;
}

/* A program like prog, whose map has been replaced by one with these entries alone. */
static int with_entries(struct oko_dp *dp, struct oko_prog *prog, uint32_t index,
                        const uint8_t *entries, uint32_t n, struct oko_prog **next,
                        struct oko_error *error)
{
    const struct oko_map *old = oko_prog_map(prog, index);
    struct oko_map *map;
    if (!old)
        return oko_err(error, OKO_E_NOTFOUND, "the program has no map %u", index);
    int rc = oko_map_create(dp->vm, &old->spec, &map, error);
    if (rc == OKO_E_NOMEM) { /* maps replaced just now may still count */
        collect(dp, true);
        rc = oko_map_create(dp->vm, &old->spec, &map, error);
    }
    if (rc)
        return rc;
    rc = fill(map, entries, n, error);
    if (!rc)
        rc = oko_prog_with_map(prog, index, map, next, error);
    oko_map_unref(map);
    return rc;
}

int oko_dp_map_replace(struct oko_dp *dp, uint32_t number, uint32_t index, const uint8_t *entries,
                       uint32_t n_entries, struct oko_error *error)
{
    bool replaced;
    int rc;
    oko_err_clear(error);
    collect(dp, false);
    do {
        struct oko_prog *prog = oko_dp_prog(dp, number), *next;
        if (!prog)
            return oko_err(error, OKO_E_NOTFOUND, "program %u is not loaded", number);
        rc = with_entries(dp, prog, index, entries, n_entries, &next, error);
        if (!rc) {
            rc = install(dp, number, prog, next, &replaced, error);
            if (rc)
                oko_prog_unref(next);
        }
        oko_prog_unref(prog);
    } while (rc == OKO_E_BUSY); /* another change came first */
    return rc;
}

int oko_dp_prog_unload(struct oko_dp *dp, uint32_t number, bool force, struct oko_error *error)
{
    struct oko_commit c;
    oko_err_clear(error);
    oko_dp_lock(dp);
    uint32_t slot = number ? oko_dp_slot(dp, number) : 0;
    int rc = 0;
    if (!slot)
        rc = oko_err(error, OKO_E_NOTFOUND, "program %u is not loaded", number);
    else if (dp->slots[slot].n_flows && !force)
        rc = oko_err(error, OKO_E_BUSY, "program %u is used by %u flows", number,
                     dp->slots[slot].n_flows);
    if (rc) {
        oko_dp_unlock(dp);
        return rc;
    }
    oko_commit_begin(dp, oko_dp_now(dp), UINT32_MAX, &c);
    for (uint32_t i = 0; !rc && dp->slots[slot].n_flows && i < dp->flows_end; i++)
        if (dp->flows[i] && dp->flows[i]->slot == slot)
            rc = oko_commit_hide(&c, dp->flows[i], OKO_REMOVED_DELETE, c.now_ns);
    if (!rc)
        rc = oko_commit_prog(&c, slot, NULL);
    if (rc)
        oko_commit_rollback(&c);
    else
        rc = oko_commit_publish(&c);
    if (!rc)
        dp->slots[slot].number = 0;
    oko_dp_unlock(dp);
    return rc ? oko_err(error, rc, "out of memory") : 0;
}

uint32_t oko_dp_log_read(struct oko_dp *dp, char *out, uint32_t size, uint64_t *lost)
{
    return oko_vm_log_read(dp->vm, out, size, lost);
}
