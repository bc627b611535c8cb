"""Filter programs before they are loaded: objects, types, assembler, compilers.

spec (what a program is) <- elf (elfobj, mapuse, mapdefs, lines, btf: object files), asm (text);
toolchain (compilers), typed (keys and values as text), disasm (listings). None of these touches the
compiled extension; conformance_plugin, a command, does.
"""
