/* The table of flow-key fields. */
#include "key.h"

#include <string.h>

/* Right-aligned in its member: a 20-bit label is the last 3 of 4 bytes. (An xreg is wider than the
 * member it starts at.) */
#define SIZE(bits)     (((bits) + 7) / 8)
#define MEMBER(member) sizeof(((struct oko_key *)0)->member)
#define FIELD(id, name, member, bits)                                                              \
    [OKO_FIELD_##id] = {name,                                                                      \
                        offsetof(struct oko_key, member) +                                         \
                            (MEMBER(member) > SIZE(bits) ? MEMBER(member) - SIZE(bits) : 0),       \
                        SIZE(bits), bits},
static const struct oko_field fields[OKO_N_FIELDS] = {OKO_FIELDS(FIELD)};

const struct oko_field *oko_field(uint32_t id)
{
    return id < OKO_N_FIELDS ? &fields[id] : NULL;
}

int oko_field_info(uint32_t id, struct oko_field_info *info)
{
    const struct oko_field *field = oko_field(id);
    if (!field)
        return OKO_E_NOTFOUND;
    memset(info, 0, sizeof *info);
    strncpy(info->name, field->name, sizeof info->name - 1);
    info->bits = field->bits;
    info->size = field->size;
    return 0;
}
