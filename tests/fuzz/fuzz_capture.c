/* Any bytes are a file: records lie inside the buffer (ASan), an error says where and repeats, and
 * what a reader delivers does not depend on whether it reads a file or a pipe. */
#define _GNU_SOURCE
#include "oko.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct outcome {
    uint64_t n, hash;
    int code;
    struct oko_error error;
};

static void mix(struct outcome *o, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        o->hash = (o->hash ^ p[i]) * 0x100000001b3;
}

static void read_all(int fd, struct outcome *o)
{
    struct oko_capture *capture;
    struct oko_record record;

    memset(o, 0, sizeof *o);
    o->code = oko_capture_open(fd, 1, &capture, &o->error);
    if (o->code)
        return;
    while ((o->code = oko_capture_next(capture, &record, &o->error)) > 0) {
        if (o->code == OKO_CAPTURE_REFILL) {
            if (oko_capture_refill(capture, &o->error))
                abort();
            continue;
        }
        o->n++;
        if (record.wire_len < record.len)
            abort();
        if (record.data)
            mix(o, record.data, record.len);
        mix(o, (const uint8_t *)&record.ns, 8);
    }
    struct oko_error again;
    if (oko_capture_next(capture, &record, &again) != o->code)
        abort();
    if (o->code < 0 && (!o->error.reason[0] || strcmp(again.reason, o->error.reason) != 0))
        abort();
    oko_capture_close(capture);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int file = -1;
    struct outcome whole, piped;
    int ends[2];

    if (file < 0)
        file = memfd_create("fuzz", 0);
    if (size > 60000 || ftruncate(file, 0) || pwrite(file, data, size, 0) != (ssize_t)size)
        return 0;
    lseek(file, 0, SEEK_SET);
    read_all(file, &whole);

    /* Once more through a pipe. */
    if (pipe(ends))
        abort();
    if (write(ends[1], data, size) != (ssize_t)size)
        abort();
    close(ends[1]);
    read_all(ends[0], &piped);
    close(ends[0]);
    if (whole.n != piped.n || whole.hash != piped.hash || whole.code != piped.code)
        abort();
    return 0;
}
