/* Filling struct oko_error; see err.h. */
#include "err.h"

#include <stdarg.h>
#include <stdio.h>

void oko_err_clear(struct oko_error *error)
{
    if (error == NULL)
        return;
    error->code = 0;
    error->sys_errno = 0;
    error->insn = -1;
    error->reason[0] = 0;
    error->hint[0] = 0;
}

int oko_err(struct oko_error *error, int code, const char *format, ...)
{
    if (error == NULL)
        return code;
    oko_err_clear(error);
    error->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(error->reason, sizeof(error->reason), format, args);
    va_end(args);
    return code;
}

int oko_err_at(struct oko_error *error, int code, uint32_t insn, const char *format, ...)
{
    if (error == NULL)
        return code;
    oko_err_clear(error);
    error->code = code;
    error->insn = (int)insn;
    va_list args;
    va_start(args, format);
    vsnprintf(error->reason, sizeof(error->reason), format, args);
    va_end(args);
    return code;
}

void oko_err_hint(struct oko_error *error, const char *format, ...)
{
    if (error == NULL)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(error->hint, sizeof(error->hint), format, args);
    va_end(args);
}
