"""The binding: the only module that imports the compiled extension `oko._oko`.

Everything above sees bytes, ints, dataclasses and the classes here; cdata never leaves. Each class
owns one handle of csrc/oko.h, frees it in close() or at the end of a with block, and has a
weakref.finalize as a net. C errors become exceptions of oko.errors, with the source line where
the program has debug information.

Lifetimes. The core counts references: VM and programs may be closed in any order. A map holds its
program. Using a closed object raises OkoError.

Thread-safety. As oko.h: control calls from any thread (the GIL is released during them); runs of a
program by one worker index must not overlap, which a lock per VM ensures here.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

from ._oko import ffi, lib
from .bpf.spec import MapSpec, ProgramSpec
from .errors import CoreError, LoadError, MapError, OkoError

CData = Any

MAX_PACKET = 65535
"""Bytes of the longest frame a program can see."""

BATCH = 64
"""Most packets of one run_batch()."""


def features() -> frozenset[str]:
    """What this build can do on this CPU: "jit", "sanitized", "checked"."""
    bits = lib.oko_features()
    return frozenset(
        name
        for name, bit in (
            ("jit", lib.OKO_FEATURE_JIT),
            ("sanitized", lib.OKO_FEATURE_SANITIZED),
            ("checked", lib.OKO_FEATURE_CHECKED),
        )
        if bits & bit
    )


class Engine(IntEnum):
    """How to run a program: enum oko_run_engine."""

    BEST = 0
    INTERP = 1
    JIT = 2
    CHECKED = 3


NOT_FOUND = int(lib.OKO_E_NOTFOUND)
"""Code of a MapError for an absent entry."""

_GENERIC = {
    -1: "out of memory, or over the memory limit",
    -2: "malformed argument",
    -3: "not found",
    -4: "exists already",
    -5: "over a limit",
    -6: "refused by the verifier",
    -7: "not supported",
    -8: "input or output failed",
    -9: "malformed contents",
    -10: "in use",
    -11: "full",
    -12: "a run-time check failed",
}


def _words(error: CData | None, code: int) -> tuple[str, str, int]:
    """(reason, hint, errno) of a failed call."""
    reason = hint = ""
    errno = 0
    if error is not None:
        reason = _string(error.reason)
        hint = _string(error.hint)
        errno = int(error.sys_errno)
    return reason or _GENERIC.get(code, f"error {code}"), hint, errno


def check(code: int, error: CData | None = None, what: str = "") -> None:
    """Raises CoreError for a negative code; what names the thing concerned."""
    if code < 0:
        reason, hint, errno = _words(error, code)
        raise CoreError(f"{what}: {reason}" if what else reason, code, hint, errno)


def _string(array: CData) -> str:
    return bytes(ffi.string(array)).decode("utf-8", "replace")


def _name(text: str) -> bytes:
    """A name as the core's char[64] holds it."""
    return text.encode()[:63]


# ---------------------------------------------------------------- handles


class Handle:
    """Owner of one C object: close() frees it once, whoever comes first."""

    _what = "object"

    def __init__(self, pointer: CData, free: Callable[[CData], None]) -> None:
        self._pointer = pointer
        self._finalizer = weakref.finalize(self, free, pointer)

    @property
    def closed(self) -> bool:
        """True after close()."""
        return not self._finalizer.alive

    @property
    def _ptr(self) -> CData:
        if not self._finalizer.alive:
            raise OkoError(f"the {self._what} is closed")
        return self._pointer

    def close(self) -> None:
        """Frees the C object; calling it again does nothing."""
        self._finalizer()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(frozen=True)
class ProgInfo:
    """struct oko_prog_info: sizes in bytes, times in nanoseconds."""

    n_insns: int
    n_maps: int
    n_data: int
    jit_bytes: int
    worst_case: int
    stateful: int
    guards: int
    reads_meta: int
    memory: int
    verify_work: int
    verify_ns: int
    jit_ns: int


@dataclass(frozen=True)
class Meta:
    """struct oko_meta: what a program sees beside the frame. Lengths of 0 mean the frame's own."""

    rx_ns: int = 0
    tun_id: int = 0
    in_port: int = 0
    wire_len: int = 0


@dataclass(frozen=True)
class MapStats:
    """What changes about a map: struct oko_map_info without the spec."""

    n_entries: int
    memory: int
    overflow: int


class Vm(Handle):
    """Home of programs and their maps: struct oko_vm."""

    _what = "VM"

    def __init__(
        self,
        *,
        n_workers: int = 1,
        max_progs: int = 0,
        max_map_bytes: int = 0,
        secret: int = 0,
    ) -> None:
        opts = ffi.new("struct oko_vm_opts *")
        opts.n_workers = n_workers
        opts.max_progs = max_progs
        opts.max_map_bytes = max_map_bytes
        opts.secret = secret
        out = ffi.new("struct oko_vm **")
        check(lib.oko_vm_new(opts, out), what="VM")
        self._running = threading.Lock()  # serialises runs
        self._programs: weakref.WeakSet[Program] = weakref.WeakSet()
        self.n_workers = n_workers
        super().__init__(out[0], lib.oko_vm_free)

    def close(self) -> None:
        """Closes the programs that are left, then frees the VM."""
        for program in list(self._programs):
            program.close()
        super().close()

    def load(
        self,
        spec: ProgramSpec,
        *,
        guarded: bool = False,
        jit: bool = True,
        keep_states: bool = False,
        conformance: bool = False,
        max_worst_case: int = 0,
        verify_budget: int = 0,
        verify_memory: int = 0,
        keep: Program | None = None,
    ) -> Program:
        """Verifies and compiles a program and creates its maps.

        guarded: check at run time what could not be proved. keep_states: for Engine.CHECKED.
        conformance: no verifier, writable memory, the conformance suite's helpers. The limits are
        those of struct oko_load_opts, 0 = default. keep: an older program whose maps of the same
        name, type and sizes are taken over. Raises LoadError.
        """
        opts = ffi.new("struct oko_load_opts *")
        opts.flags = (
            (lib.OKO_LOAD_GUARDED if guarded else 0)
            | (0 if jit else lib.OKO_LOAD_NO_JIT)
            | (lib.OKO_LOAD_CONFORMANCE if conformance else 0)
            | (lib.OKO_LOAD_KEEP_STATES if keep_states else 0)
        )
        opts.max_worst_case = max_worst_case
        opts.verify_budget = verify_budget
        opts.verify_memory = verify_memory
        with _Flat(spec) as flat:
            out = ffi.new("struct oko_prog **")
            error = ffi.new("struct oko_error *")
            older = keep._ptr if keep is not None else ffi.NULL
            code = lib.oko_prog_load(self._ptr, flat.spec, opts, older, out, error)
            if code < 0:
                raise load_error(spec, code, error)
        program = Program(out[0], spec, self._running)
        self._programs.add(program)
        return program

    def log(self) -> list[str]:
        """The lines that programs printed (helper 7) since the last call."""
        lines = []
        buffer = ffi.new("char[]", 1024)
        lost = ffi.new("uint64_t *")
        while lib.oko_vm_log_read(self._ptr, buffer, 1024, lost):
            lines.append(_string(buffer))
        if lost[0]:
            lines.append(f"({lost[0]} lines lost)")
        return lines


def load_error(spec: ProgramSpec, code: int, error: CData) -> LoadError:
    """The exception for a refused program, with the place in words."""
    reason, hint, errno = _words(error, code)
    insn = int(error.insn)
    text, file, line, column, source, where = "", "", 0, 0, "", ""
    if 0 <= insn < spec.n_insns:
        # The verifier names the place itself, for users of C; here it goes in front.
        reason = reason.partition(f" (instruction {insn}: ")[0]
        text = disassemble(spec, insn)
        where = f"instruction {insn} ({text}): "
        place = spec.line_at(insn)
        if place is not None:
            file, line, column, source = place.file, place.line, place.column, place.text
            where = f"{file.rpartition('/')[2]}:{line}: {where}"
    return LoadError(
        f"{where}{reason}",
        code,
        hint,
        errno,
        reason=reason,
        insn=insn,
        text=text,
        file=file,
        line=line,
        column=column,
        source=source,
    )


class _Flat:
    """A struct oko_prog_spec with everything it points to, alive inside a with block."""

    def __init__(self, spec: ProgramSpec) -> None:
        self.spec = ffi.new("struct oko_prog_spec *")
        keep: list[Any] = []
        self._keep = keep
        flat = self.spec
        flat.name = _name(spec.name)
        insns = ffi.new("struct oko_insn[]", max(1, spec.n_insns))
        ffi.buffer(insns)[: len(spec.insns)] = spec.insns
        flat.insns, flat.n_insns = insns, spec.n_insns
        funcs = ffi.new("struct oko_func_spec[]", max(1, len(spec.funcs)))
        for out, func in zip(funcs, spec.funcs, strict=False):
            out.name, out.insn = _name(func.name), func.insn
        flat.funcs, flat.n_funcs = funcs, len(spec.funcs)
        maps = ffi.new("struct oko_map_spec[]", max(1, len(spec.maps)))
        for out, item in zip(maps, spec.maps, strict=False):
            _fill_map(out, item)
        flat.maps, flat.n_maps = maps, len(spec.maps)
        data = ffi.new("struct oko_data_spec[]", max(1, len(spec.data)))
        for out, section in zip(data, spec.data, strict=False):
            out.name, out.size = _name(section.name), section.size
            out.writable = section.writable
            if section.contents is not None:
                contents = ffi.from_buffer("uint8_t[]", section.contents)
                keep.append(contents)
                out.bytes = contents
        flat.data, flat.n_data = data, len(spec.data)
        lines = ffi.new("struct oko_line_spec[]", max(1, len(spec.lines)))
        strings: dict[str, CData] = {}
        for out, record in zip(lines, spec.lines, strict=False):
            out.insn, out.line = record.insn, record.line
            for text in (record.file, record.text):
                if text and text not in strings:
                    strings[text] = ffi.new("char[]", text.encode())
            out.file = strings.get(record.file, ffi.NULL)
            out.text = strings.get(record.text, ffi.NULL)
        flat.lines, flat.n_lines = lines, len(spec.lines)
        keep += [insns, funcs, maps, data, lines, strings]

    def __enter__(self) -> _Flat:
        return self

    def __exit__(self, *exc: object) -> None:
        self._keep.clear()


def _fill_map(out: CData, spec: MapSpec) -> None:
    out.name = _name(spec.name)
    for field in ("type", "key_size", "value_size", "max_entries", "n_hashes"):
        setattr(out, field, getattr(spec, field))


def disassemble(spec: ProgramSpec, insn: int) -> str:
    """Instruction insn as text, in the syntax of clang and bpftool; 64-bit loads name their map."""
    return disassemble_all(spec, range(insn, insn + 1))[0]


def disassemble_all(spec: ProgramSpec, insns: Sequence[int]) -> list[str]:
    """Several instructions at once."""
    out = ffi.new("char[]", 512)
    texts = []
    with _Flat(spec) as flat:
        for insn in insns:
            lib.oko_prog_disasm(flat.spec, insn, out, 512)
            texts.append(_string(out))
    return texts


def known_opcodes() -> list[int]:
    """The opcode bytes that the instruction table has."""
    return [code for code in range(256) if lib.oko_opcode_known(code)]


class Program(Handle):
    """A loaded program: struct oko_prog."""

    _what = "program"

    def __init__(self, pointer: CData, spec: ProgramSpec, running: threading.Lock) -> None:
        super().__init__(pointer, lib.oko_prog_unref)
        self.spec = spec
        self._running = running
        self._counts: CData = None  # owned here: must outlive the runs that fill it

    def close(self) -> None:
        """Gives the program back when no run is in progress."""
        with self._running:
            super().close()

    @property
    def info(self) -> ProgInfo:
        """Facts about the loaded program."""
        out = ffi.new("struct oko_prog_info *")
        lib.oko_prog_info(self._ptr, out)
        return ProgInfo(*(getattr(out, field.name) for field in fields(ProgInfo)))

    def run(
        self,
        packet: bytes,
        meta: Meta | None = None,
        *,
        engine: Engine = Engine.BEST,
        worker: int = 0,
    ) -> int:
        """Runs on one packet and returns r0; 1 means match.

        Raises CoreError (code -12) when a guard of a guarded program stopped the run.
        """
        batch = _Batch([packet], meta)
        out = ffi.new("uint64_t *")
        error = ffi.new("struct oko_error *")
        error.insn = -1
        with self._running:
            code = lib.oko_prog_run(self._ptr, worker, engine, batch.records, out, error)
        if code == lib.OKO_E_VERIFY:
            raise load_error(self.spec, code, error)
        check(code, error, self.spec.name)
        return int(out[0])

    def run_batch(
        self,
        packets: Sequence[bytes],
        meta: Meta | Sequence[Meta] | None = None,
        *,
        engine: Engine = Engine.BEST,
        worker: int = 0,
    ) -> list[bool]:
        """Runs on at most 64 packets in order, through the batch entry; True means match.

        meta: one for all packets, or one each.
        """
        if len(packets) > BATCH:
            raise OkoError(f"a batch has at most {BATCH} packets, not {len(packets)}")
        if not packets:
            return []
        batch = _Batch(packets, meta)
        todo = (1 << len(packets)) - 1
        out = ffi.new("uint64_t *")
        with self._running:
            code = lib.oko_prog_run_batch(self._ptr, worker, engine, batch.records, todo, out)
        check(code, None, self.spec.name)
        return [bool(out[0] >> i & 1) for i in range(len(packets))]

    def run_raw(self, memory: bytes | None, *, engine: Engine = Engine.BEST) -> int:
        """Conformance only: r1 = a writable copy of memory, r2 = its size; returns r0."""
        size = len(memory) if memory else 0
        buffer = ffi.new("uint8_t[]", memory) if memory else ffi.NULL
        out = ffi.new("uint64_t *")
        error = ffi.new("struct oko_error *")
        error.insn = -1
        with self._running:
            code = lib.oko_prog_run_raw(self._ptr, engine, buffer, size, out, error)
        check(code, error)
        return int(out[0])

    def profile(self) -> Callable[[], list[int]]:
        """Starts counting executions per instruction (interpreter); returns the reader."""
        counts = ffi.new("uint64_t[]", max(1, self.spec.n_insns))
        with self._running:
            lib.oko_prog_profile(self._ptr, counts)
            self._counts = counts
        return lambda: list(counts)

    def guards(self) -> list[int]:
        """Instructions that guarded loading gave a run-time check."""
        count = lib.oko_prog_guards(self._ptr, ffi.NULL, 0)
        out = ffi.new("uint32_t[]", max(1, count))
        lib.oko_prog_guards(self._ptr, out, count)
        return [int(out[i]) for i in range(count)]

    def code(self) -> bytes:
        """The machine code, b"" without JIT."""
        size = ffi.new("uint32_t *")
        code = lib.oko_prog_code(self._ptr, size)
        return bytes(ffi.buffer(code, size[0])) if size[0] else b""

    def data(self, index: int) -> bytes:
        """Contents of data section index now."""
        size = lib.oko_prog_data_read(self._ptr, index, ffi.NULL, 0)
        check(size, what=f"data section {index}")
        out = ffi.new("uint8_t[]", max(1, size))
        lib.oko_prog_data_read(self._ptr, index, out, size)
        return bytes(ffi.buffer(out, size))

    def set_data(self, index: int, contents: bytes) -> None:
        """Sets a writable data section as a whole."""
        buffer = ffi.from_buffer("uint8_t[]", contents)
        code = lib.oko_prog_data_write(self._ptr, index, buffer, len(contents))
        check(code, what=f"data section {index}")

    def map(self, index: int) -> Map:
        """Map number index; OkoError beyond the last."""
        pointer = lib.oko_prog_map(self._ptr, index)
        if pointer == ffi.NULL:
            raise OkoError(f"program {self.spec.name!r} has no map {index}")
        return Map(self, pointer, self.spec.maps[index])


class _Batch:
    """Packets as struct oko_prog_in[], alive as long as this object."""

    def __init__(self, packets: Sequence[bytes], meta: Meta | Sequence[Meta] | None) -> None:
        metas = meta if isinstance(meta, Sequence) else [meta or Meta()] * len(packets)
        if len(metas) != len(packets):
            raise OkoError(f"{len(metas)} metas for {len(packets)} packets")
        self.records = ffi.new("struct oko_prog_in[]", len(packets))
        self.metas = ffi.new("struct oko_meta[]", len(packets))
        self.buffers = []
        for i, packet in enumerate(packets):
            if len(packet) > MAX_PACKET:
                raise OkoError(f"a packet of {len(packet)} bytes is over {MAX_PACKET}")
            # a copy: conformance programs write to it, and bytes objects are shared
            buffer = ffi.from_buffer("uint8_t[]", bytearray(packet))
            self.buffers.append(buffer)
            record, out, given = self.records[i], self.metas[i], metas[i]
            record.data, record.len, record.meta = buffer, len(packet), ffi.addressof(out)
            out.rx_ns, out.tun_id, out.in_port = given.rx_ns, given.tun_id, given.in_port
            out.wire_len = given.wire_len or len(packet)
            out.len = len(packet)


class Map:
    """A map of a loaded program: struct oko_map. Keys and values are bytes of the map's sizes.

    Operations raise MapError: no such entry, full, index out of range, or not supported by the
    type. Sizes are checked before C sees them.
    """

    def __init__(self, program: Program, pointer: CData, spec: MapSpec) -> None:
        self._program = program
        self._pointer = pointer
        self.spec = spec
        sizes = ffi.new("uint32_t[2]")
        lib.oko_map_dump_sizes(pointer, sizes, sizes + 1)
        self._dump_sizes = (int(sizes[0]), int(sizes[1]))
        info = ffi.new("struct oko_map_info *")
        lib.oko_map_info(pointer, info)
        sketch = not self._operates_on_values()
        self.key_size = spec.key_size or spec.value_size if sketch else spec.key_size
        self.value_size = 4 if sketch else self._dump_sizes[1]
        """Bytes that get() returns: per-worker maps give all workers' values, sketches a u32."""

    def _operates_on_values(self) -> bool:
        return self.spec.type not in (lib.OKO_MAP_BLOOM, lib.OKO_MAP_COUNT_MIN)

    @property
    def _ptr(self) -> CData:
        self._program._ptr  # noqa: B018  # raises when the program is closed
        return self._pointer

    @property
    def entry_sizes(self) -> tuple[int, int]:
        """Bytes of a key and of a value as items() gives them."""
        return self._dump_sizes

    @property
    def stats(self) -> MapStats:
        """Entries now, memory, entries outside their probe window."""
        out = ffi.new("struct oko_map_info *")
        lib.oko_map_info(self._ptr, out)
        return MapStats(int(out.n_entries), int(out.memory), int(out.overflow))

    def get(self, key: bytes) -> bytes:
        """The value of key (LPM: of the longest match; sketches: 0/1 or the estimate, a u32)."""
        out = ffi.new("uint8_t[]", max(1, self.value_size))
        self._done(lib.oko_map_lookup(self._ptr, self._sized("key", key, self.key_size), out))
        return bytes(ffi.buffer(out, self.value_size))

    def set(self, key: bytes, value: bytes, *, flags: int = 0) -> None:
        """Inserts or replaces; flags 1: only insert, 2: only replace."""
        raw_key = self._sized("key", key, self.key_size)
        raw_value = self._sized("value", value, self.spec.value_size)
        self._done(lib.oko_map_update(self._ptr, raw_key, raw_value, flags))

    def delete(self, key: bytes) -> None:
        """Removes an entry."""
        self._done(lib.oko_map_delete(self._ptr, self._sized("key", key, self.key_size)))

    def add(self, item: bytes) -> None:
        """Bloom filter, count-min: counts an item."""
        self._done(lib.oko_map_add(self._ptr, self._sized("item", item, self.key_size)))

    def clear(self) -> None:
        """Removes all entries; arrays and sketches become zero."""
        self._done(lib.oko_map_clear(self._ptr))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries (key, value); sketches: their counters, see oko_map_dump()."""
        key_size, value_size = self._dump_sizes
        each = key_size + value_size
        chunk = max(1, min(4096, (1 << 20) // max(1, each)))
        cursor = ffi.new("uint64_t *")
        out = ffi.new("uint8_t[]", max(1, chunk * each))
        while True:
            count = lib.oko_map_dump(self._ptr, cursor, out, chunk)
            self._done(count)
            if not count:
                return
            raw = bytes(ffi.buffer(out, count * each))
            for at in range(0, len(raw), each):
                yield raw[at : at + key_size], raw[at + key_size : at + each]

    def dump(self) -> bytes:
        """All entries as they are, packed: for restore()."""
        each = sum(self._dump_sizes)
        chunk = max(1, min(65536, (1 << 20) // max(1, each)))
        cursor = ffi.new("uint64_t *")
        out = ffi.new("uint8_t[]", max(1, chunk * each))
        parts: list[bytes] = []
        while True:
            count = lib.oko_map_dump(self._ptr, cursor, out, chunk)
            self._done(count)
            if not count:
                return b"".join(parts)
            parts.append(bytes(ffi.buffer(out, count * each)))

    def restore(self, entries: bytes, n_workers: int) -> None:
        """Puts back what dump() gave in a VM of so many workers, in place of what is there. For a
        program that does not run yet."""
        self.clear()
        key_size, value_size = self._dump_sizes
        if self.spec.type in (lib.OKO_MAP_WORKER_ARRAY, lib.OKO_MAP_WORKER_HASH):
            value_size = self.spec.value_size * n_workers
        n, rest = divmod(len(entries), key_size + value_size)
        if rest:
            raise MapError(f"map {self.spec.name!r}: not a dump of it", lib.OKO_E_INVAL)
        data = ffi.from_buffer("uint8_t[]", entries)
        self._done(lib.oko_map_restore(self._ptr, data, n, n_workers))

    def _sized(self, what: str, value: bytes, size: int) -> CData:
        if len(value) != size:
            raise MapError(
                f"map {self.spec.name!r}: a {what} has {size} bytes, not {len(value)}",
                lib.OKO_E_INVAL,
            )
        return ffi.from_buffer("uint8_t[]", value)

    def _done(self, code: int) -> None:
        if code >= 0:
            return
        array = self.spec.type in (lib.OKO_MAP_ARRAY, lib.OKO_MAP_WORKER_ARRAY)
        beyond = f"index out of range (max_entries is {self.spec.max_entries})"
        words = {
            lib.OKO_E_NOTFOUND: beyond if array else "no such entry",
            lib.OKO_E_FULL: f"full ({self.spec.max_entries} entries)",
            lib.OKO_E_UNSUP: f"a map of type {self.spec.type_label} cannot do this",
            lib.OKO_E_INVAL: "a prefix is longer than its address",  # LPM tries only
        }
        reason = words.get(code) or _GENERIC.get(code, f"error {code}")
        raise MapError(f"map {self.spec.name!r}: {reason}", code)
