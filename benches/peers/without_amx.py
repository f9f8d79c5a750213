"""How does a program run on a machine with AMX as if it had none?

The system gives tile registers only to those who ask (`arch_prctl`, ARCH_REQ_XCOMP_PERM). A filter answers that question
with "no" and then starts the command; every library that asks, ours included, takes its next best instructions.
"""

import ctypes
import os
import platform
import struct
import sys

ARCH_PRCTL, REQUEST_PERMISSION, DENY = 158, 0x1023, 0x00050000 | 1  # SECCOMP_RET_ERRNO with EPERM


def main():
    if platform.machine() != "x86_64" or not sys.platform.startswith("linux"):
        sys.exit("without_amx: x86-64 Linux only")
    instruction = lambda code, jt, jf, k: struct.pack("HBBI", code, jt, jf, k)
    program = b"".join(
        [
            instruction(0x20, 0, 0, 0),  # the number of the call
            instruction(0x15, 0, 3, ARCH_PRCTL),
            instruction(0x20, 0, 0, 16),  # its first argument
            instruction(0x15, 0, 1, REQUEST_PERMISSION),
            instruction(0x06, 0, 0, DENY),
            instruction(0x06, 0, 0, 0x7FFF0000),  # all else is allowed
        ]
    )
    buffer = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    no_new_privileges, seccomp, filter_mode = 38, 22, 2
    if prctl(no_new_privileges, 1, 0, 0, 0) or prctl(seccomp, filter_mode, header, 0, 0):
        sys.exit(f"without_amx: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[1], sys.argv[1:])


main()
