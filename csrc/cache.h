#ifndef OKO_CACHE_H
#define OKO_CACHE_H

#include "cls.h"

struct oko_cache;

int oko_cache_new(uint64_t bytes, const struct oko_hash_key *hash, struct oko_cache **cache);
void oko_cache_free(struct oko_cache *cache);

#endif
