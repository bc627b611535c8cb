/* Helpers: the table, and those that are not a map's business; see helper.h.
 *
 * Map helpers only dispatch: a map has an operation or it does not (-2). time_get_ns is the
 * packet's own clock reading, so a run never sees two times and a replay is reproducible.
 *
 * Thread-safety: called by forwarding threads, each with its own env. */
#include "helper.h"

#include "../base/atomic.h"
#include "../base/bits.h"
#include "../base/err.h"
#include "vm.h"

#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- maps */

static uint64_t as_result(int code)
{
    return (uint64_t)(int64_t)code;
}

static uint64_t help_lookup(uint64_t r1, uint64_t r2, uint64_t r3, uint64_t r4, uint64_t r5,
                            struct oko_env *env)
{
    (void)r3, (void)r4, (void)r5;
    struct oko_map *map = (struct oko_map *)r1;
    return (uint64_t)map->ops->lookup(map, (const void *)r2, env);
}

static uint64_t help_update(uint64_t r1, uint64_t r2, uint64_t r3, uint64_t r4, uint64_t r5,
                            struct oko_env *env)
{
    (void)r4, (void)r5;
    struct oko_map *map = (struct oko_map *)r1;
    if (map->ops->update == NULL)
        return as_result(OKO_HELPER_NO_OP);
    return as_result(map->ops->update(map, (const void *)r2, (const void *)r3, env));
}

static uint64_t help_delete(uint64_t r1, uint64_t r2, uint64_t r3, uint64_t r4, uint64_t r5,
                            struct oko_env *env)
{
    (void)r3, (void)r4, (void)r5;
    struct oko_map *map = (struct oko_map *)r1;
    if (map->ops->del == NULL)
        return as_result(OKO_HELPER_NO_OP);
    return as_result(map->ops->del(map, (const void *)r2, env));
}

static uint64_t help_add(uint64_t r1, uint64_t r2, uint64_t r3, uint64_t r4, uint64_t r5,
                         struct oko_env *env)
{
    (void)r3, (void)r4, (void)r5;
    struct oko_map *map = (struct oko_map *)r1;
    if (map->ops->add == NULL)
        return as_result(OKO_HELPER_NO_OP);
    return as_result(map->ops->add(map, (const void *)r2, env));
}

/* ---------------------------------------------------------------- time and hash */

static uint64_t help_time(uint64_t r1, uint64_t r2, uint64_t r3, uint64_t r4, uint64_t r5,
                          struct oko_env *env)
{
    (void)r1, (void)r2, (void)r3, (void)r4, (void)r5;
    return env->meta->rx_ns;
}

static inline uint32_t rotate(uint32_t x, int bits)
{
    return x << bits | x >> (32 - bits);
}

/* lookup3 (Bob Jenkins, 2006, "hashlittle"): three words of state; blocks of 12 bytes are added
 * and mixed reversibly; the last block of 1 to 12 bytes is added and mixed once more, one way. */
uint32_t oko_hash_lookup3(const void *data, size_t size)
{
    const uint8_t *p = data;
    uint32_t a = 0xdeadbeefu + (uint32_t)size, b = a, c = a;
    for (; size > 12; size -= 12, p += 12) {
        a += oko_shared_load32(p);
        b += oko_shared_load32(p + 4);
        c += oko_shared_load32(p + 8);
        a -= c, a ^= rotate(c, 4), c += b;
        b -= a, b ^= rotate(a, 6), a += c;
        c -= b, c ^= rotate(b, 8), b += a;
        a -= c, a ^= rotate(c, 16), c += b;
        b -= a, b ^= rotate(a, 19), a += c;
        c -= b, c ^= rotate(b, 4), b += a;
    }
    if (size == 0)
        return c;
    a += (uint32_t)oko_word_part(p, size < 4 ? size : 4);
    if (size > 4)
        b += (uint32_t)oko_word_part(p + 4, size < 8 ? size - 4 : 4);
    if (size > 8)
        c += (uint32_t)oko_word_part(p + 8, size - 8);
    c ^= b, c -= rotate(b, 14);
    a ^= c, a -= rotate(c, 11);
    b ^= a, b -= rotate(a, 25);
    c ^= b, c -= rotate(b, 16);
    a ^= c, a -= rotate(c, 4);
    b ^= a, b -= rotate(a, 14);
    c ^= b, c -= rotate(b, 24);
    return c;
}

static uint64_t help_hash(uint64_t r1, uint64_t r2, uint64_t r3, uint64_t r4, uint64_t r5,
                          struct oko_env *env)
{
    (void)r3, (void)r4, (void)r5, (void)env;
    return oko_hash_lookup3((const void *)r1, (size_t)r2);
}

/* ---------------------------------------------------------------- printf */

/* One conversion of a format. */
struct conversion {
    bool zero;     /* pad with zeroes instead of spaces */
    uint8_t width; /* at least so many characters */
    uint8_t bits;  /* of the argument: 16, 32 or 64 */
    char letter;   /* d u x X c % */
};

/* Parses what follows a '%' in text of at most left bytes; returns how many bytes it took, 0 if it
 * is none of ours. */
static size_t parse_conversion(const char *text, size_t left, struct conversion *conv)
{
    size_t i = 0;
    *conv = (struct conversion){false, 0, 32, 0};
    if (i < left && text[i] == '0') {
        conv->zero = true;
        i++;
    }
    for (int digits = 0; i < left && digits < 2 && text[i] >= '0' && text[i] <= '9'; digits++, i++)
        conv->width = (uint8_t)(conv->width * 10 + text[i] - '0');
    if (i < left && text[i] == 'h') {
        conv->bits = 16;
        i++;
    } else if (i < left && text[i] == 'l') {
        conv->bits = 64;
        i++;
        if (i < left && text[i] == 'l')
            i++;
    }
    if (i == left)
        return 0;
    conv->letter = text[i] == 'i' ? 'd' : text[i];
    bool plain = i == 0;
    if (conv->letter == '%')
        return plain ? 1 : 0;
    return strchr("duxXc", conv->letter) != NULL && conv->letter != 0 ? i + 1 : 0;
}

int oko_printf_check(const char *format, size_t size, struct oko_error *error)
{
    size_t length = strnlen(format, size);
    if (length == size)
        return oko_err(error, OKO_E_INVAL, "the format has no terminating zero");
    int n_args = 0;
    for (size_t i = 0; i < length;) {
        if (format[i++] != '%')
            continue;
        struct conversion conv;
        size_t taken = parse_conversion(format + i, length - i, &conv);
        if (taken == 0) {
            oko_err(error, OKO_E_INVAL, "unknown conversion in the format at \"%%%.8s\"",
                    format + i);
            oko_err_hint(error, "use %%d %%u %%x %%c, with l or ll for 64 bits, or %%%%");
            return OKO_E_INVAL;
        }
        i += taken;
        n_args += conv.letter != '%';
    }
    if (n_args > 4)
        return oko_err(error, OKO_E_INVAL, "the format takes %d arguments; at most 4 are possible",
                       n_args);
    return n_args;
}

static uint32_t put_conversion(char *out, uint32_t size, struct conversion conv, uint64_t arg)
{
    int n;
    int width = conv.width;
    if (conv.bits < 64)
        arg &= ((uint64_t)1 << conv.bits) - 1;
    int64_t value = (int64_t)(arg << (64 - conv.bits)) >> (64 - conv.bits);
    switch (conv.letter) {
    case 'd':
        n = snprintf(out, size, conv.zero ? "%0*lld" : "%*lld", width, (long long)value);
        break;
    case 'u':
        n = snprintf(out, size, conv.zero ? "%0*llu" : "%*llu", width, (unsigned long long)arg);
        break;
    case 'x':
        n = snprintf(out, size, conv.zero ? "%0*llx" : "%*llx", width, (unsigned long long)arg);
        break;
    case 'X':
        n = snprintf(out, size, conv.zero ? "%0*llX" : "%*llX", width, (unsigned long long)arg);
        break;
    default: { /* c: what is not printable would garble the log */
        char c = (char)(arg & 0xff);
        n = snprintf(out, size, "%*c", width, c >= ' ' && c <= '~' ? c : '.');
        break;
    }
    }
    return n < 0 ? 0 : (uint32_t)n < size ? (uint32_t)n : size - 1;
}

uint32_t oko_printf_format(char *out, uint32_t size, const char *format, const uint64_t args[4])
{
    uint32_t length = 0;
    uint32_t n_args = 0;
    for (size_t i = 0; format[i] != 0 && length + 1 < size;) {
        if (format[i] != '%') {
            char c = format[i++];
            out[length++] = c >= ' ' && c <= '~' ? c : c == '\n' ? ' ' : '.';
            continue;
        }
        struct conversion conv;
        size_t taken = parse_conversion(format + i + 1, strlen(format + i + 1), &conv);
        i += 1 + taken;
        if (taken == 0 || conv.letter == '%')
            out[length++] = '%';
        else if (n_args < 4)
            length += put_conversion(out + length, size - length, conv, args[n_args++]);
    }
    while (length > 0 && out[length - 1] == ' ')
        length--; /* usually the '\n' */
    out[length] = 0;
    return length;
}

static uint64_t help_printf(uint64_t r1, uint64_t r2, uint64_t r3, uint64_t r4, uint64_t r5,
                            struct oko_env *env)
{
    const uint64_t args[4] = {r2, r3, r4, r5};
    char line[OKO_LOG_LINE];
    uint32_t length = oko_printf_format(line, sizeof(line), (const char *)r1, args);
    oko_vm_log(env, line, length);
    return length;
}

/* ---------------------------------------------------------------- the table */

/* Weights: the cost of a call relative to one ordinary instruction, on the high side. */
static const struct oko_helper helpers[] = {
    [OKO_HELPER_MAP_LOOKUP] = {"map_lookup",
                               {OKO_ARG_MAP, OKO_ARG_KEY},
                               OKO_RET_VALUE_OR_NULL,
                               30,
                               false,
                               true,
                               help_lookup},
    [OKO_HELPER_MAP_UPDATE] = {"map_update",
                               {OKO_ARG_MAP, OKO_ARG_KEY, OKO_ARG_VALUE},
                               OKO_RET_SCALAR,
                               100,
                               false,
                               true,
                               help_update},
    [OKO_HELPER_MAP_DELETE] =
        {"map_delete", {OKO_ARG_MAP, OKO_ARG_KEY}, OKO_RET_SCALAR, 100, false, false, help_delete},
    [OKO_HELPER_MAP_ADD] =
        {"map_add", {OKO_ARG_MAP, OKO_ARG_KEY}, OKO_RET_SCALAR, 60, false, true, help_add},
    [OKO_HELPER_TIME_GET_NS] = {"time_get_ns", {0}, OKO_RET_SCALAR, 1, false, true, help_time},
    [OKO_HELPER_HASH] =
        {"hash", {OKO_ARG_MEM, OKO_ARG_SIZE}, OKO_RET_SCALAR, 20, false, true, help_hash},
    [OKO_HELPER_PRINTF] = {"printf",
                           {OKO_ARG_FMT, OKO_ARG_VARARG, OKO_ARG_VARARG, OKO_ARG_VARARG,
                            OKO_ARG_VARARG},
                           OKO_RET_SCALAR,
                           1000,
                           true,
                           false,
                           help_printf},
};

const struct oko_helper *oko_helper(int32_t id)
{
    if (id <= 0 || (size_t)id >= OKO_ARRAY_LEN(helpers) || helpers[id].name == NULL)
        return NULL;
    return &helpers[id];
}
