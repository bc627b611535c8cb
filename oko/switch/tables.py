"""What an administrator and controllers settle about flow tables: how many flows they hold, whether
a full one evicts flows, and who is told when it gets full (OpenFlow 1.4, 7.3.4).

Vacancy is how much of a table is free, in percent. A controller that wants to know gives two marks:
one event comes when vacancy falls below the lower, the next when it rises above the upper, so that
a table at a mark does not cause a flood. Marks are looked at after each change that a controller
makes, and when the bridge polls.

These settings are not kept over restarts. Thread-safety: the control thread's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from oko.datapath import Datapath
from oko.switch.events import VACANCY_DOWN, VACANCY_UP, TableStatus

N_TABLES = 254
DEFAULT_MAX_FLOWS = 4_194_304
"""What a datapath without a limit of its own holds."""


@dataclass(frozen=True, slots=True)
class TableConfig:
    """Settings of a table. vacancy: (down, up) marks in percent, None: nobody is told. max_flows:
    0 = only the bridge's limit. waits_for: the event that comes next."""

    evict: bool = False
    vacancy: tuple[int, int] | None = None
    max_flows: int = 0
    waits_for: int = field(default=VACANCY_DOWN, compare=False)


_PLAIN = TableConfig()


class Tables:
    """The settings of all tables. limits: flows that a table may hold, where it is less than a
    bridge may."""

    def __init__(self, datapath: Datapath, max_flows: int) -> None:
        self._datapath = datapath
        self._max_flows = max_flows or DEFAULT_MAX_FLOWS
        self._known: dict[int, TableConfig] = {}
        self.limits: dict[int, int] = {}

    def __getitem__(self, number: int) -> TableConfig:
        return self._known.get(number, _PLAIN)

    def max_flows(self, number: int) -> int:
        """How many flows it can hold."""
        return min(self[number].max_flows or self._max_flows, self._max_flows)

    def vacancy(self, number: int) -> int:
        """Percent of the table that is free."""
        most = self.max_flows(number)
        return max(0, most - self._datapath.table(number).n_flows) * 100 // most

    def limit(self, number: int, max_flows: int) -> None:
        """So many flows it may hold from now on; those that are there stay."""
        self.limits[number] = max_flows
        self._put(number, replace(self[number], max_flows=max_flows))

    def configure(
        self, numbers: Iterable[int], *, evict: bool, vacancy: tuple[int, int] | None
    ) -> None:
        """What a controller wants of these tables from now on."""
        for number in numbers:
            waits_for = VACANCY_DOWN
            if vacancy is not None and self.vacancy(number) < vacancy[1]:
                waits_for = VACANCY_UP
            self._put(
                number, replace(self[number], evict=evict, vacancy=vacancy, waits_for=waits_for)
            )

    def _put(self, number: int, config: TableConfig) -> None:
        if config.max_flows or config.evict != self[number].evict:
            self._datapath.set_table(number, max_flows=config.max_flows, evict=config.evict)
        self._known[number] = config

    def events(self) -> Iterator[TableStatus]:
        """What passed a mark since the last call."""
        for number, config in tuple(self._known.items()):
            if config.vacancy is None:
                continue
            down, up = config.vacancy
            now = self.vacancy(number)
            if config.waits_for == VACANCY_DOWN and now < down:
                reason = VACANCY_DOWN
            elif config.waits_for == VACANCY_UP and now > up:
                reason = VACANCY_UP
            else:
                continue
            other = VACANCY_UP if reason == VACANCY_DOWN else VACANCY_DOWN
            self._known[number] = replace(config, waits_for=other)
            yield TableStatus(reason, number, config.evict, config.vacancy, now)
