"""Shell completion and the man page, made from the tables of commandline.py."""

from __future__ import annotations

from oko.ofctl.commandline import (
    COMMANDS,
    NAME,
    OPTIONS,
    SECTIONS,
    Option,
    UsageError,
    option_usage,
)
from oko.ofctl.run import Run


def completion(run: Run, words: list[str]) -> None:
    """completion SHELL"""
    makers = {"bash": bash, "zsh": zsh, "fish": fish}
    maker = makers.get(words[0])
    if maker is None:
        raise UsageError(f"{words[0]}: there is completion for {', '.join(makers)}")
    print(maker(), end="")


def man(run: Run, words: list[str]) -> None:
    """man"""
    print(man_page(), end="")


# ---------------------------------------------------------------- completion


def bash() -> str:
    """Completion for bash: commands, options, bridges with a socket, and files."""
    commands = " ".join(command.name for command in COMMANDS)
    options = " ".join(_long(option) for option in OPTIONS)
    return f"""\
# bash completion for {NAME}: . <({NAME} completion bash)
_oko_ofctl() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} word command= place=0 i
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        case $word in
            -*) ;;
            *) if [ -z "$command" ]; then command=$word; else place=$((place + 1)); fi ;;
        esac
    done
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "{options}" -- "$current"))
        [[ ${{COMPREPLY-}} == *= ]] && compopt -o nospace
    elif [ -z "$command" ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$current"))
    elif [ $place = 0 ] && [ "$command" != ofp-parse ]; then
        local folder=${{OVS_RUNDIR:-/run/oko}} bridges= socket
        for socket in "$folder"/*.mgmt; do
            [ -S "$socket" ] && socket=${{socket##*/}} && bridges+=" ${{socket%.mgmt}}"
        done
        COMPREPLY=($(compgen -W "$bridges" -- "$current"))
    else
        COMPREPLY=($(compgen -f -- "$current"))
    fi
}}
complete -o filenames -F _oko_ofctl {NAME}
"""


def _long(option: Option) -> str:
    return f"--{option.name}" + ("=" if option.needs_value else "")


def _quoted(text: str) -> str:
    return text.replace("'", "'\\''").replace(":", "\\:").replace("[", "\\[").replace("]", "\\]")


def zsh() -> str:
    """Completion for zsh."""
    lines = [f"#compdef {NAME}", "_arguments -s -S \\"]
    for option in OPTIONS:
        value = f"={_zsh_value(option)}" if option.value else ""
        lines.append(f"  '--{option.name}{value.split(':')[0]}[{_quoted(option.words)}]"
                     f"{':' + value.split(':', 1)[1] if ':' in value else ''}' \\")  # fmt: skip
    lines += ["  '1:command:->command' '*:argument:_files'", "case $state in", "  command)"]
    lines.append("    local -a commands=(")
    lines += [f"      '{_quoted(c.name)}:{_quoted(c.words)}'" for c in COMMANDS]
    lines += ["    )", "    _describe command commands ;;", "esac"]
    return "\n".join(lines) + "\n"


def _zsh_value(option: Option) -> str:
    files = option.value in ("FILE", "DIR")
    return f":{option.value.strip('[]').lower()}:{'_files' if files else ''}"


def fish() -> str:
    """Completion for fish."""

    def quoted(text: str) -> str:
        return text.replace("\\", "\\\\").replace("'", "\\'")

    names = " ".join(command.name for command in COMMANDS)
    lines = [f"# fish completion for {NAME}"]
    for command in COMMANDS:
        lines.append(
            f"complete -c {NAME} -f -n 'not __fish_seen_subcommand_from {names}' "
            f"-a {command.name} -d '{quoted(command.words)}'"
        )
    for option in OPTIONS:
        short = f" -s {option.short}" if option.short else ""
        needs = " -r" if option.needs_value else ""
        lines.append(
            f"complete -c {NAME} -l {option.name}{short}{needs} -d '{quoted(option.words)}'"
        )
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- man page


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped


def man_page() -> str:
    """The man page, in man(7)'s language."""
    lines = [
        f'.TH {NAME.upper()} 8 "" "oko" "System Administration"',
        ".SH NAME",
        f"{_roff(NAME)} \\- flows, filter programs and ports of a switch",
        ".SH SYNOPSIS",
        f".B {_roff(NAME)}",
        "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARG\\fR...]",
        ".SH DESCRIPTION",
        "Shows and changes the flows, groups, meters, ports, filter programs and maps of an",
        "OpenFlow switch. Commands and output are those of",
        ".BR ovs\\-ofctl (8);",
        "the commands about filter programs and maps need",
        ".BR oko\\-switchd .",
        "\\fISWITCH\\fR is a bridge's name, \\fBunix:\\fIFILE\\fR,",
        "\\fBtcp:\\fIHOST\\fR[\\fB:\\fIPORT\\fR] or \\fBssl:\\fIHOST\\fR[\\fB:\\fIPORT\\fR].",
        "A \\fIFILE\\fR may be \\fB\\-\\fR for standard input.",
        ".SH COMMANDS",
    ]
    for section in SECTIONS:
        lines.append(f".SS {_roff(section)}")
        for command in (c for c in COMMANDS if c.section == section):
            lines += [".TP", f"\\fB{_roff(command.name)}\\fR {_roff(command.usage)}"]
            words = command.words[0].upper() + command.words[1:]
            lines.append(_roff(words) + ("." if not words.endswith(".") else ""))
            if command.json:
                lines.append("\\fB\\-\\-json\\fR prints one JSON object.")
    lines.append(".SH OPTIONS")
    for option in OPTIONS:
        lines += [".TP", f"\\fB{_roff(option_usage(option).strip())}\\fR"]
        lines.append(_roff(option.words[0].upper() + option.words[1:]) + ".")
    lines += [
        ".SH EXIT STATUS",
        "0: done. 1: refused, failed or not understood; standard error says why. 2: diff\\-flows",
        "found differences.",
        ".SH ENVIRONMENT",
        ".TP",
        "\\fBOVS_RUNDIR\\fR",
        "Where sockets of bridges are looked for.",
        ".SH SEE ALSO",
        ".BR ovs\\-ofctl (8),",
        ".BR ovs\\-fields (7),",
        ".BR ovs\\-actions (7)",
    ]
    return "\n".join(lines) + "\n"
