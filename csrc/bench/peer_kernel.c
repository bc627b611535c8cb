/* The kernel's BPF JIT, through libbpf: one BPF_PROG_TEST_RUN is one pass over all packets, by
 * bpf_loop inside the program (tools/bench/filters/kernel.h), so what a system call costs is spread
 * over thousands of packets. Thread CPU time counts the time in the kernel, too. */
#include "bench/peer.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../tools/bench/filters/kernel_input.h"

struct run {
    struct bpf_object *object;
    int prog, map;
};

static char log_text[1 << 20];

static int collect_log(enum libbpf_print_level level, const char *format, va_list args)
{
    size_t used = strlen(log_text);

    if (level != LIBBPF_WARN)
        return 0;
    return vsnprintf(log_text + used, sizeof log_text - used, format, args);
}

/* The verifier's last word: the line before its summary. */
static void last_word(char *why, size_t size, int err)
{
    char *summary = strstr(log_text, "\nprocessed ");
    char *line = summary;

    while (line && line > log_text && line[-1] != '\n')
        line--;
    if (line)
        snprintf(why, size, "refused: %.*s", (int)(summary - line), line);
    else
        snprintf(why, size, "%s", strerror(-err));
}

/* Before it is loaded, a program's variables can be set. Where `input` is: in the memory of
 * map .bss, at an offset that the type information tells. */
static struct kernel_input *find_input(struct bpf_object *object)
{
    const struct btf *btf = bpf_object__btf(object);
    int id = btf__find_by_name_kind(btf, ".bss", BTF_KIND_DATASEC);
    const struct btf_type *section = id > 0 ? btf__type_by_id(btf, (uint32_t)id) : NULL;
    struct bpf_map *map;

    bpf_object__for_each_map(map, object)
    {
        const char *name = bpf_map__name(map);
        size_t size, n = strlen(name);
        uint8_t *memory = (uint8_t *)(uintptr_t)bpf_map__initial_value(map, &size);
        if (!section || !memory || n < 4 || strcmp(name + n - 4, ".bss"))
            continue;
        for (int i = 0; i < btf_vlen(section); i++) {
            const struct btf_var_secinfo *var = btf_var_secinfos(section) + i;
            const struct btf_type *type = btf__type_by_id(btf, var->type);
            if (!strcmp(btf__name_by_offset(btf, type->name_off), "input") &&
                var->size == sizeof(struct kernel_input))
                return (struct kernel_input *)(memory + var->offset);
        }
    }
    return NULL;
}

static void close_run(void *arg)
{
    struct run *run = arg;

    if (run)
        bpf_object__close(run->object);
    free(run);
}

static bool open_path(const char *path, const struct peer_traffic *traffic, void **out, char *why,
                      size_t why_size)
{
    struct run *run = calloc(1, sizeof *run);

    if (!run || traffic->n > MAX_PACKETS || traffic->size > FRAME_SPACE) {
        snprintf(why, why_size, "out of memory");
        free(run);
        return false;
    }
    libbpf_set_print(collect_log);
    log_text[0] = '\0';
    run->object = bpf_object__open_file(path, NULL);
    if (!run->object) {
        snprintf(why, why_size, "%s: %s", path, strerror(errno));
        free(run);
        return false;
    }
    struct kernel_input *input = find_input(run->object);
    struct bpf_program *prog = bpf_object__find_program_by_name(run->object, "run");
    if (!input || !prog) {
        snprintf(why, why_size, "%s has no variable `input` or no function `run`", path);
        close_run(run);
        return false;
    }
    memcpy(input->frames, traffic->frames, traffic->size);
    input->len = traffic->in[0].len;
    input->n_packets = traffic->n;
    for (uint32_t i = 0; i < traffic->n; i++) {
        input->place[i] = (uint32_t)(traffic->in[i].data - traffic->frames);
        input->rx_ns[i] = traffic->in[i].meta->rx_ns;
    }
    int err = bpf_object__load(run->object); /* copies it into the kernel */
    if (err) {
        if (err == -EPERM)
            snprintf(why, why_size, "bpf(2) is not permitted here");
        else
            last_word(why, why_size, err);
        close_run(run);
        return false;
    }
    run->prog = bpf_program__fd(prog);
    run->map = -1;
    struct bpf_map *map;
    bpf_object__for_each_map(map, run->object)
    {
        if (!bpf_map__is_internal(map) && run->map < 0)
            run->map = bpf_map__fd(map);
    }
    *out = run;
    return true;
}

static bool open_run(const char *directory, const char *filter, const struct peer_traffic *traffic,
                     void **out, char *why, size_t why_size)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s.kernel.o", directory, filter);
    return open_path(path, traffic, out, why, why_size);
}

static bool open_given_clock(const char *directory, const char *filter,
                             const struct peer_traffic *traffic, void **out, char *why,
                             size_t why_size)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s.kernel-clock.o", directory, filter);
    return !access(path, R_OK) && open_path(path, traffic, out, why, why_size);
}

static bool put(void *arg, const void *key, const void *value)
{
    return bpf_map_update_elem(((struct run *)arg)->map, key, value, BPF_ANY) == 0;
}

static uint64_t pass(void *arg)
{
    static uint8_t frame[64]; /* BPF_PROG_TEST_RUN wants one; the program does not look at it */
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = sizeof frame,
                .repeat = 1);

    if (bpf_prog_test_run_opts(((struct run *)arg)->prog, &opts)) {
        perror("bench-vm: BPF_PROG_TEST_RUN");
        exit(1);
    }
    return opts.retval;
}

const struct peer oko_peer_kernel = {"kernel", open_run, put, pass, close_run};
const struct peer oko_peer_kernel_given_clock = {"kernel-given-clock", open_given_clock, put, pass,
                                                 close_run};
