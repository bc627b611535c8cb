"""The command line: one table of commands and one of options, from which everything else is made:
what is accepted, --help, shell completion (shell.py) and the man page.

Options may stand anywhere, long ones may be shortened while they stay unique, "--" ends them: as
getopt_long() has it, because ovs-ofctl does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from oko.errors import OkoError

NAME = "oko-ofctl"


class UsageError(OkoError):
    """The words on the command line make no sense."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command. run: "module:function" below oko.ofctl; most None: any number of arguments.
    versions: the OpenFlow versions to try where -O does not say; "any": whichever there is."""

    name: str
    usage: str
    words: str
    run: str
    least: int
    most: int | None
    section: str
    json: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """An option. value: what stands for its argument in the help, "" for none; a value in brackets
    may be left out. key: under which it is kept (several options may share one)."""

    name: str
    words: str
    short: str = ""
    value: str = ""
    key: str = ""
    section: str = "Output"

    @property
    def needs_value(self) -> bool:
        return bool(self.value) and not self.value.startswith("[")

    @property
    def kept_as(self) -> str:
        return self.key or self.name.replace("-", "_")


_FLOWS = "Flows"
_SWITCH = "The switch and its ports"
_GROUPS = "Groups and meters"
_FILTERS = "Filter programs and their maps"
_PACKETS = "Packets and connections"
_OTHER = "Other commands"
SECTIONS = (_FILTERS, _FLOWS, _SWITCH, _GROUPS, _PACKETS, _OTHER)

COMMANDS: tuple[Command, ...] = (
    Command("load-filter-prog", "SWITCH ID FILE", "load a filter program: an object (.o), or C",
            "programs:load", 3, 3, _FILTERS, True),
    Command("unload-filter-prog", "SWITCH ID", "unload a filter program",
            "programs:unload", 2, 2, _FILTERS),
    Command("show-filter-prog", "SWITCH [ID]", "show loaded programs and their maps",
            "programs:show", 1, 2, _FILTERS, True),
    Command("update-map", "SWITCH PROG MAP key BYTE... value BYTE...",
            "write an entry of a map, in bytes; or SWITCH PROG map=M key=K value=V, typed; or "
            "SWITCH PROG map=M file=F", "maps:update", 3, None, _FILTERS),
    Command("delete-map", "SWITCH PROG MAP key BYTE...",
            "delete an entry of a map, or SWITCH PROG map=M key=K, typed",
            "maps:delete", 3, None, _FILTERS),
    Command("dump-map", "SWITCH PROG MAP [hex]", "show the entries of a map",
            "maps:dump", 3, 4, _FILTERS, True),
    Command("send-maps", "SWITCH PROG [MAP...]",
            "subscribe to maps that the switch sends, and print them as they come",
            "maps:send_maps", 2, None, _FILTERS, True),
    Command("add-flow", "SWITCH FLOW", "add a flow", "flows:add", 2, 2, _FLOWS),
    Command("add-flows", "SWITCH FILE", "add the flows of a file", "flows:add_file", 2, 2, _FLOWS),
    Command("mod-flows", "SWITCH FLOW", "modify the actions of matching flows",
            "flows:modify", 2, 2, _FLOWS),
    Command("del-flows", "SWITCH [FLOW]", "delete matching flows", "flows:delete", 1, 2, _FLOWS),
    Command("bundle", "SWITCH FILE",
            "make the changes to flows and groups and the packet-outs of a file, all or none",
            "bundle:bundle", 2, 2, _FLOWS),
    Command("replace-flows", "SWITCH FILE", "replace flows with those of a file",
            "replace:replace_flows", 2, 2, _FLOWS),
    Command("diff-flows", "SOURCE1 SOURCE2", "compare flows of two switches or files",
            "replace:diff_flows", 2, 2, _FLOWS, True),
    Command("dump-flows", "SWITCH [FLOW]", "print matching flows",
            "dump:dump", 1, 2, _FLOWS, True),
    Command("dump-aggregate", "SWITCH [FLOW]", "print sums over matching flows",
            "dump:aggregate", 1, 2, _FLOWS, True),
    Command("show", "SWITCH", "show features and ports", "switch:show", 1, 1, _SWITCH, True),
    Command("dump-desc", "SWITCH", "print the switch's description",
            "switch:dump_desc", 1, 1, _SWITCH, True),
    Command("dump-tables", "SWITCH", "print table statistics",
            "switch:dump_tables", 1, 1, _SWITCH, True),
    Command("dump-table-features", "SWITCH", "print what tables can do",
            "tables:dump_features", 1, 1, _SWITCH, True),
    Command("dump-table-desc", "SWITCH", "print how tables are set (OpenFlow 1.4 and later)",
            "tables:dump_desc", 1, 1, _SWITCH, True),
    Command("mod-table", "SWITCH TABLE SETTING",
            "set a table, or all: evict, noevict, vacancy:LOW,HIGH, novacancy (OpenFlow 1.4 and "
            "later)", "tables:mod_table", 3, 3, _SWITCH),
    Command("dump-ports", "SWITCH [PORT]", "print port statistics",
            "switch:dump_ports", 1, 2, _SWITCH, True),
    Command("dump-ports-desc", "SWITCH [PORT]", "print port descriptions",
            "switch:dump_ports_desc", 1, 2, _SWITCH, True),
    Command("mod-port", "SWITCH PORT ACT",
            "change a port: up, down, flood, no-flood, receive, no-receive, forward, no-forward, "
            "packet-in, no-packet-in", "switch:mod_port", 3, 3, _SWITCH),
    Command("queue-stats", "SWITCH [PORT [QUEUE]]", "print queue statistics",
            "switch:queue_stats", 1, 3, _SWITCH, True),
    Command("queue-get-config", "SWITCH [PORT [QUEUE]]", "print how queues are set",
            "switch:queue_get_config", 1, 3, _SWITCH, True),
    Command("get-frags", "SWITCH", "print how fragments are handled",
            "switch:get_frags", 1, 1, _SWITCH, True),
    Command("set-frags", "SWITCH MODE",
            "set how fragments are handled: normal, drop, reassemble or nx-match",
            "switch:set_frags", 2, 2, _SWITCH),
    Command("add-group", "SWITCH GROUP", "add a group", "groups:add", 2, 2, _GROUPS),
    Command("add-groups", "SWITCH FILE", "add the groups of a file",
            "groups:add_file", 2, 2, _GROUPS),
    Command("mod-group", "SWITCH GROUP", "modify a group", "groups:modify", 2, 2, _GROUPS),
    Command("del-groups", "SWITCH [GROUP]", "delete matching groups",
            "groups:delete", 1, 2, _GROUPS),
    Command("insert-buckets", "SWITCH GROUP",
            "insert buckets into a group, behind command_bucket_id (OpenFlow 1.5)",
            "groups:insert_buckets", 2, 2, _GROUPS),
    Command("remove-buckets", "SWITCH GROUP",
            "remove the bucket command_bucket_id of a group, or all (OpenFlow 1.5)",
            "groups:remove_buckets", 2, 2, _GROUPS),
    Command("dump-groups", "SWITCH [GROUP]", "print groups", "groups:dump", 1, 2, _GROUPS, True),
    Command("dump-group-stats", "SWITCH [GROUP]", "print group statistics",
            "groups:stats", 1, 2, _GROUPS, True),
    Command("dump-group-features", "SWITCH", "print what groups can be",
            "groups:features", 1, 1, _GROUPS, True),
    Command("add-meter", "SWITCH METER", "add a meter", "groups:add_meter", 2, 2, _GROUPS),
    Command("mod-meter", "SWITCH METER", "modify a meter", "groups:modify_meter", 2, 2, _GROUPS),
    Command("del-meters", "SWITCH [METER]", "delete meters", "groups:delete_meters", 1, 2, _GROUPS),
    Command("dump-meters", "SWITCH [METER]", "print meters",
            "groups:dump_meters", 1, 2, _GROUPS, True),
    Command("meter-stats", "SWITCH [METER]", "print meter statistics",
            "groups:meter_stats", 1, 2, _GROUPS, True),
    Command("meter-features", "SWITCH", "print what meters can be",
            "groups:meter_features", 1, 1, _GROUPS, True),
    Command("packet-out", "SWITCH IN_PORT ACTIONS PACKET...",
            "send packets (in hexadecimal) through actions; or SWITCH 'in_port=.. packet=.. "
            "actions=..'", "packets:packet_out", 2, None, _PACKETS),
    Command("trace", "SWITCH PACKET",
            "show a packet's way through tables, filters and actions of oko-switchd, without "
            "sending it: PACKET is a flow, a frame in hexadecimal (with --in-port) or "
            "CAPTURE:NUMBER", "trace:trace", 2, 3, _PACKETS, True),
    Command("monitor", "SWITCH [MISSLEN] [invalid_ttl] [watch:[SPEC...]]",
            "print what the switch sends by itself; with watch: also changes of flows. SPEC is "
            "!initial, !add, !delete, !modify, !own, !actions, table=.. or a match",
            "monitor:monitor", 1, None, _PACKETS, True),
    Command("snoop", "SWITCH", "print what the switch and its controllers say to each other",
            "monitor:snoop", 1, 1, _PACKETS, True),
    Command("ping", "TARGET [N]", "latency of N-byte echoes", "packets:ping", 1, 2, _PACKETS, True),
    Command("probe", "TARGET", "whether TARGET is up", "packets:probe", 1, 1, _PACKETS),
    Command("benchmark", "TARGET N COUNT", "bandwidth of COUNT N-byte echoes",
            "packets:benchmark", 3, 3, _PACKETS, True),
    Command("ofp-parse", "FILE", "print the messages in a file",
            "packets:parse_file", 1, 1, _OTHER, True),
    Command("completion", "SHELL", "print completion for bash, zsh or fish",
            "shell:completion", 1, 1, _OTHER),
    Command("man", "", "print the man page: oko-ofctl man | man -l -", "shell:man", 0, 0, _OTHER),
    Command("print-error", "ENUM", "print an error's numbers by version",
            "packets:print_error", 1, 1, _OTHER, True),
)  # fmt: skip

OPTIONS: tuple[Option, ...] = (
    Option("protocols", "OpenFlow versions to offer, e.g. OpenFlow10,OpenFlow13", "O", "LIST",
           section="OpenFlow"),
    Option("flow-format", "in OpenFlow 1.0: OpenFlow10 for flows without Nicira's extensions", "F",
           "FORMAT", section="OpenFlow"),
    Option("timeout", "give up after so many seconds of silence (10)", "t", "SECS",
           section="OpenFlow"),
    Option("run-dir", "where sockets of bridges are: $OVS_RUNDIR, else /run/oko", "", "DIR",
           section="OpenFlow"),
    Option("private-key", "key for ssl: targets", "p", "FILE", section="OpenFlow"),
    Option("certificate", "certificate for ssl: targets", "c", "FILE", section="OpenFlow"),
    Option("ca-cert", "the CA that the switch's certificate must be from, or none", "C", "FILE",
           section="OpenFlow"),
    Option("strict", "flow commands cover one flow exactly", section="Changes"),
    Option("bundle", "make the changes all or none (OpenFlow 1.3 and later)", section="Changes"),
    Option("readd", "replace-flows: also flows that have not changed", section="Changes"),
    Option("may-create", "mod-group: add it if it is not there", section="Changes"),
    Option("create-only", "load-filter-prog: do not replace a program", section="Changes"),
    Option("force", "unload-filter-prog: delete the flows that use it", section="Changes"),
    Option("replace", "update-map: these are all entries there shall be", section="Changes"),
    Option("noexist", "update-map: only entries that are not there", section="Changes"),
    Option("exist", "update-map: only entries that are there", section="Changes"),
    Option("object", "update-map, delete-map, dump-map: the program's object, for types of keys "
           "and values that the switch does not tell", "", "FILE"),
    Option("typed", "dump-map: one entry a line"),
    Option("json", "one JSON object"),
    Option("more", "print more of messages", "m"),
    Option("no-stats", "dump-flows: without counters", key="no_stats"),
    Option("stats", "dump-flows: with counters (the default)"),
    Option("sort", "dump-flows: sort by priority, or a field, ascending", value="[FIELD]"),
    Option("rsort", "the same, descending", value="[FIELD]"),
    Option("names", "names of ports instead of numbers (the default on a terminal)"),
    Option("no-names", "numbers of ports"),
    Option("color", "always, never or auto (the default: on a terminal)", value="[WHEN]"),
    Option("interval", "send-maps: also every so many seconds", "", "SECS"),
    Option("count", "send-maps, monitor, snoop, ping: end after so many", "", "N"),
    Option("in-port", "trace: where the packet comes in (1)", "", "PORT"),
    Option("timestamp", "monitor, snoop: with the time"),
    Option("help", "this text", "h", section="Other"),
    Option("version", "name and version", "V", section="Other"),
)  # fmt: skip

_LONG = {option.name: option for option in OPTIONS}
_SHORT = {option.short: option for option in OPTIONS if option.short}
BY_NAME = {command.name: command for command in COMMANDS}


@dataclass(slots=True)
class Line:
    """A command line that was understood. options: by key; True for those without a value."""

    command: Command | None
    arguments: list[str]
    options: dict[str, str] = field(default_factory=dict)
    sorts: list[tuple[str, bool]] = field(default_factory=list)  # (field, descending)

    def has(self, key: str) -> bool:
        return key in self.options

    def get(self, key: str, default: str = "") -> str:
        return self.options.get(key, default)


def parse(argv: Sequence[str]) -> Line:
    """The command, its arguments and options; UsageError."""
    words: list[str] = []
    options: dict[str, str] = {}
    sorts: list[tuple[str, bool]] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if word.startswith("--"):
            name = _long(word[2:], rest, options)
            if name in ("sort", "rsort"):
                sorts.append((options[name] or "priority", name == "rsort"))
        elif word.startswith("-") and len(word) > 1:
            _cluster(word[1:], rest, options)
        else:
            words.append(word)
    if "help" in options or "version" in options:
        return Line(None, words, options)
    if not words:
        raise UsageError("missing command name; use --help for help")
    command = BY_NAME.get(words[0])
    if command is None:
        raise UsageError(f"unknown command '{words[0]}'; use --help for help", _near(words[0]))
    n = len(words) - 1
    if n < command.least:
        raise UsageError(
            f"'{command.name}' command requires at least {command.least} arguments",
            f"{NAME} {command.name} {command.usage}",
        )
    if command.most is not None and n > command.most:
        raise UsageError(
            f"'{command.name}' command takes at most {command.most} arguments",
            f"{NAME} {command.name} {command.usage}",
        )
    if "json" in options and not command.json:
        raise UsageError(f"'{command.name}' has no JSON form")
    return Line(command, words[1:], options, sorts)


def _long(word: str, rest: list[str], options: dict[str, str]) -> str:
    name, equals, value = word.partition("=")
    found = [_LONG[name]] if name in _LONG else [o for o in OPTIONS if o.name.startswith(name)]
    if len(found) != 1:
        what = "ambiguous" if found else "unrecognized"
        hint = ", ".join(f"--{option.name}" for option in found) or _near(name, "--")
        raise UsageError(f"option '--{name}' is {what}", hint)
    option = found[0]
    if equals and not option.value:
        raise UsageError(f"option '--{option.name}' doesn't allow an argument")
    if option.needs_value and not equals:
        if not rest:
            raise UsageError(f"option '--{option.name}' requires an argument")
        value = rest.pop(0)
    options[option.kept_as] = value
    return option.name


def _cluster(letters: str, rest: list[str], options: dict[str, str]) -> None:
    while letters:
        letter, letters = letters[0], letters[1:]
        option = _SHORT.get(letter)
        if option is None:
            raise UsageError(f"invalid option -- '{letter}'")
        value = ""
        if option.needs_value:
            if not letters and not rest:
                raise UsageError(f"option requires an argument -- '{letter}'")
            value, letters = (letters or rest.pop(0)), ""
        options[option.kept_as] = value


def _near(word: str, prefix: str = "") -> str:
    """The names that a mistyped word may have meant."""
    import difflib

    names = list(_LONG) if prefix else list(BY_NAME)
    found = difflib.get_close_matches(word, names, 2)
    return "did you mean " + " or ".join(prefix + name for name in found) + "?" if found else ""


# ---------------------------------------------------------------- help


def help_text() -> str:
    """What --help prints."""
    from textwrap import wrap

    lines = [f"{NAME}: flows, filter programs and ports of a switch", ""]
    lines.append(f"usage: {NAME} [OPTIONS] COMMAND [ARG...]")

    def entry(left: str, words: str) -> None:
        first, *more = wrap(words, 60)
        if len(left) > 26:
            lines.append(f"  {left}")
            lines.append(f"{'':30}{first}")
        else:
            lines.append(f"  {left:<28}{first}")
        lines.extend(f"{'':30}{part}" for part in more)

    for section in SECTIONS:
        commands = [c for c in COMMANDS if c.section == section]
        if commands:
            lines += ["", f"{section}:"]
            for command in commands:
                entry(f"{command.name} {command.usage}", command.words)
    lines += [
        "",
        "SWITCH is a bridge's name, unix:FILE, tcp:HOST[:PORT] or ssl:HOST[:PORT]; FILE may be -.",
    ]
    sections: dict[str, list[Option]] = {}
    for option in OPTIONS:
        sections.setdefault(option.section, []).append(option)
    for section, options in sections.items():
        lines += ["", f"Options ({section}):"]
        for option in options:
            entry(option_usage(option), option.words)
    return "\n".join(lines) + "\n"


def option_usage(option: Option) -> str:
    """-O, --protocols=LIST"""
    value = option.value
    if value:
        value = f"[={value[1:-1]}]" if value.startswith("[") else f"={value}"
    short = f"-{option.short}, " if option.short else "    "
    return f"{short}--{option.name}{value}"
