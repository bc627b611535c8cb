"""Filter programs before they are loaded: objects, types, assembler, compilers.

spec (what a program is) <- elf + btf (object files), asm (text) ; disasm, typed values, toolchain.
Nothing here touches the compiled extension: disasm gets its printer passed in by the caller.
"""
