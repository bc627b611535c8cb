"""Filter programs and their maps as a library: load, run, look inside.

    with oko.FilterProgram.load("blocked.c") as prog:
        prog.maps["blocked"]["ip:10.0.0.1"] = 1
        prog.matches(frame)

A FilterProgram stands alone, with a VM of its own; programs inside flows belong to a datapath.
Keys and values are bytes, or typed values as oko.bpf.typed reads them. Everything here raises
OkoError only. Thread-safety: as the binding's, runs of one program are serialised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import _binding
from ._binding import Engine, MapStats, Meta, ProgInfo
from .bpf import toolchain, typed
from .bpf.spec import MapSpec, ProgramSpec
from .errors import MapError, OkoError

__all__ = ["Engine", "FilterProgram", "Map", "MapStats", "Meta", "ProgInfo", "read_program"]


def read_program(source: ProgramSpec | bytes | str | Path, name: str = "") -> ProgramSpec:
    """A spec from an object's bytes, or from a .o or .c file."""
    if isinstance(source, ProgramSpec):
        return source
    if isinstance(source, bytes):
        from .bpf.elf import read_object  # imports pyelftools, which takes a while

        return read_object(source, name)
    return toolchain.read_filter(source)


class Map:
    """A map of a loaded program.

    Keys and values may be given as bytes or typed ("ip:10.0.0.1", 1, {"src": ..}) and come back as
    bytes; get_typed() and items_typed() give them typed where the object says how.
    """

    def __init__(self, handle: _binding.Map, number: int) -> None:
        self._handle = handle
        self.number = number

    @property
    def spec(self) -> MapSpec:
        """Its definition."""
        return self._handle.spec

    @property
    def name(self) -> str:
        """The symbol's name."""
        return self.spec.name

    @property
    def stats(self) -> MapStats:
        """Entries now, memory, overflow."""
        return self._handle.stats

    @property
    def key_bytes(self) -> int:
        """Bytes of a key; of a sketch: of an item."""
        return self._handle.key_size

    @property
    def entry_sizes(self) -> tuple[int, int]:
        """Bytes of a key and of a value as items() gives them."""
        return self._handle.entry_sizes

    def __repr__(self) -> str:
        return f"<oko map {self.name!r}, {self.spec.type_label}>"

    def __len__(self) -> int:
        return self.stats.n_entries

    def key(self, key: typed.Value) -> bytes:
        """The bytes of a key."""
        what = f"key of map {self.name!r}"
        return typed.parse(key, self._handle.key_size, self.spec.key_layout, what)

    def value(self, value: typed.Value) -> bytes:
        """The bytes of a value."""
        what = f"value of map {self.name!r}"
        return typed.parse(value, self.spec.value_size, self.spec.value_layout, what)

    def packed(self, key: typed.Value, value: typed.Value) -> bytes:
        """Key and value as one entry of struct oko_map; of a sketch: the item."""
        return self.key(key) + (b"" if self.spec.type in (2, 3) else self.value(value))

    def get(self, key: typed.Value) -> bytes | None:
        """The value, or None when there is no such entry.

        LPM: of the longest match. Per-worker maps: all workers' values, one after another.
        Sketches: a u32, 0/1 or the estimate.
        """
        try:
            return self._handle.get(self.key(key))
        except MapError as exc:
            if exc.code == _binding.NOT_FOUND:
                return None
            raise

    def get_typed(self, key: typed.Value) -> Any:
        """The value as ints, dicts and text; None when there is no such entry."""
        raw = self.get(key)
        return None if raw is None else self._typed_value(raw)

    def _typed_value(self, raw: bytes) -> Any:
        if self.spec.type in (2, 3):
            return int.from_bytes(raw, "little")
        slots = [
            typed.to_json(slot, self.spec.value_layout)
            for slot in typed.value_slots(self.spec, raw)
        ]
        return slots if self.spec.type in (7, 8) else slots[0]

    def __getitem__(self, key: typed.Value) -> bytes:
        return self._handle.get(self.key(key))

    def __setitem__(self, key: typed.Value, value: typed.Value) -> None:
        self._handle.set(self.key(key), self.value(value))

    def __delitem__(self, key: typed.Value) -> None:
        self._handle.delete(self.key(key))

    def add(self, item: typed.Value) -> None:
        """Bloom filter, count-min: counts an item."""
        self._handle.add(self.key(item))

    def clear(self) -> None:
        """Removes all entries."""
        self._handle.clear()

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries; sketches: their counters."""
        return self._handle.items()

    def dump(self) -> bytes:
        """All entries, packed; per-worker maps: with the values of all workers."""
        return self._handle.dump()

    def restore(self, entries: bytes, n_workers: int) -> None:
        """Puts back what dump() gave where there were so many workers, in place of what is there.
        For a program that does not run yet. Workers that are new begin with zeroes."""
        self._handle.restore(entries, n_workers)

    def items_typed(self) -> Iterator[tuple[Any, Any]]:
        """All entries, typed where the object says how."""
        for key, value in self.items():
            if self.spec.type in (2, 3):
                yield f"hex:{key.hex()}", f"hex:{value.hex()}"
            else:
                yield typed.to_json(key, self.spec.key_layout), self._typed_value(value)

    def apply(self, update: typed.MapUpdate) -> int:
        """Writes a map update's entries; returns how many."""
        for key, value in update.entries:
            if value is None:
                self.add(key)
            else:
                self[key] = value
        return len(update.entries)


class Maps(Mapping[str, Map]):
    """A program's maps by name; by_number() also takes "2"."""

    def __init__(self, program: _binding.Program) -> None:
        self._maps = [Map(program.map(i), i) for i in range(len(program.spec.maps))]
        self._names = {found.name: found for found in self._maps}

    def __getitem__(self, name: str) -> Map:
        return self._names[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._maps)

    def find(self, name: str | int) -> Map:
        """The map of that name or number; OkoError lists what there is."""
        if isinstance(name, str) and name in self._names:
            return self._names[name]
        number = int(name) if str(name).isdecimal() else -1
        if 0 <= number < len(self._maps):
            return self._maps[number]
        have = ", ".join(f"{m.number} {m.name}" for m in self._maps) or "none"
        raise OkoError(f"the program has no map {name!r}; its maps: {have}")


class FilterProgram:
    """A loaded filter program with a VM of its own. Use load()."""

    def __init__(self, vm: _binding.Vm, program: _binding.Program) -> None:
        self._vm = vm
        self._program = program
        self.maps = Maps(program)

    @classmethod
    def load(
        cls,
        source: ProgramSpec | bytes | str | Path,
        *,
        name: str = "",
        guarded: bool = False,
        jit: bool = True,
        max_worst_case: int = 0,
    ) -> FilterProgram:
        """Reads (and compiles, for C), verifies and loads a program.

        guarded: check at run time what cannot be proved. max_worst_case: most instructions that a
        packet may cost, 0 = 1,000,000. Raises ElfError, ToolchainError or LoadError.
        """
        spec = read_program(source, name)
        vm = _binding.Vm()
        try:
            program = vm.load(spec, guarded=guarded, jit=jit, max_worst_case=max_worst_case)
        except BaseException:
            vm.close()
            raise
        return cls(vm, program)

    @property
    def spec(self) -> ProgramSpec:
        """What was loaded."""
        return self._program.spec

    @property
    def info(self) -> ProgInfo:
        """Facts found while loading."""
        return self._program.info

    def run(self, packet: bytes, meta: Meta | None = None, *, engine: Engine = Engine.BEST) -> int:
        """r0 of a run on one packet (64-bit unsigned)."""
        return self._program.run(packet, meta, engine=engine)

    def matches(self, packet: bytes, meta: Meta | None = None) -> bool:
        """Whether the filter says match: r0 is exactly 1."""
        return self.run(packet, meta) == 1

    def run_batch(
        self,
        packets: Sequence[bytes],
        meta: Meta | Sequence[Meta] | None = None,
        *,
        engine: Engine = Engine.BEST,
    ) -> list[bool]:
        """Whether the filter matches each packet, in order; any number of packets.

        meta: one for all packets, or one each.
        """
        verdicts: list[bool] = []
        for start in range(0, len(packets), _binding.BATCH):
            end = start + _binding.BATCH
            metas = meta[start:end] if isinstance(meta, Sequence) else meta
            verdicts += self._program.run_batch(packets[start:end], metas, engine=engine)
        return verdicts

    def data(self, name: str) -> bytes:
        """Contents of the data section called name (".data", ".bss") now."""
        for index, section in enumerate(self.spec.data):
            if section.name == name:
                return self._program.data(index)
        raise OkoError(f"the program has no data section {name!r}")

    def profile(self) -> Callable[[], list[int]]:
        """Starts counting executions of each instruction (interpreter); returns the reader."""
        return self._program.profile()

    def log(self) -> list[str]:
        """Lines that the program printed since the last call."""
        return self._vm.log()

    def close(self) -> None:
        """Frees program, maps and VM; calling it again does nothing."""
        self._program.close()
        self._vm.close()

    def __enter__(self) -> FilterProgram:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
