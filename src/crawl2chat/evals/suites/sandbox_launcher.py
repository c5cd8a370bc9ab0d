"""What runs inside the sandbox: a script of its own, started as `python -I sandbox_launcher.py`, never imported.

It reads `{"way", "program", "seconds", …}` as JSON from stdin. With "namespaces" it first builds the walls: new
namespaces for users, mounts, processes, network, IPC and host name; a root of nothing but read-only system files, a
/proc of its own and one small folder in memory; no capabilities, and no way to new ones. Then, in every way, it sets
limits and runs the program; the mark that it writes last to stdout says that the program came to its end: an exit
status says nothing of one that calls exit(0).
"""

import ast
import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

CLONE_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
#                  mount        cgroup       uts          ipc          user         process      network
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
SYS_MOUNT_SETATTR, AT_RECURSIVE, AT_FDCWD, MOUNT_ATTR_RDONLY = 442, 0x8000, -100, 1  # 442 on every architecture
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
NOBODY = 65534
DEVICES = ("null", "zero", "random", "urandom")
ROOT = os.getcwd()  # an empty folder, on which the new root is mounted; only within the namespace
FOLDER = "sandbox"  # the program's own

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    check(libc.mount(*arguments), f"mount {target}")


def show(path: str) -> None:
    """Make a file or folder of the system visible in the new root, read-only, with all that is mounted in it."""
    target = ROOT + path
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "a").close()
    mount(path, target, "", MS_BIND | MS_REC)
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    check(
        libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, target.encode(), AT_RECURSIVE, attributes, ctypes.sizeof(attributes)),
        f"mount {path} read-only",
    )


def build_walls(visible: list[str], folder_size: int) -> None:
    """Leave the system for namespaces of our own. Returns in the first process of the new ones."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:  # we become nobody, whose processes can be counted; but mounting takes root of the new namespace
        inside, inside_group = NOBODY, NOBODY
        map_from_outside([f"0 0 1\n{NOBODY} {NOBODY} 1"] * 2)
    else:
        inside, inside_group = user, group
        check(libc.unshare(CLONE_NAMESPACES), "unshare")
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{user} {user} 1")
        write("/proc/self/gid_map", f"{group} {group} 1")
    child = os.fork()  # the first process of its namespace, with which all others in it end
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    mount("", "/", "", MS_REC | MS_PRIVATE)
    mount("tmpfs", ROOT, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path in visible:
        if os.path.islink(path):
            os.makedirs(os.path.dirname(ROOT + path), exist_ok=True)
            os.symlink(os.readlink(path), ROOT + path)
        elif os.path.exists(path):
            show(path)
    os.makedirs(f"{ROOT}/dev")
    for device in DEVICES:
        open(f"{ROOT}/dev/{device}", "w").close()
        mount(f"/dev/{device}", f"{ROOT}/dev/{device}", "", MS_BIND)
    for name in ("proc", FOLDER):
        os.makedirs(f"{ROOT}/{name}")
    mount("proc", f"{ROOT}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    options = f"size={folder_size},nr_inodes=4096,mode=700,uid={inside},gid={inside_group}"
    mount("tmpfs", f"{ROOT}/{FOLDER}", "tmpfs", MS_NOSUID | MS_NODEV, options)
    if not os.path.lexists(f"{ROOT}/tmp"):
        os.symlink(FOLDER, f"{ROOT}/tmp")
    os.chdir(ROOT)
    check(libc.pivot_root(b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "umount")
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    check(libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, b"/", 0, attributes, ctypes.sizeof(attributes)), "read-only root")
    write("/proc/sys/user/max_user_namespaces", "0")  # or it could be root again, in one of its own
    give_up_privileges(inside, inside_group, changes=user == 0)
    os.chdir(f"/{FOLDER}")


def map_from_outside(maps: list[str]) -> None:
    """Unshare, and have a process outside say which users and groups there are: one inside may name only itself."""
    here, there = os.pipe()
    us = os.getpid()
    helper = os.fork()
    if not helper:
        os.close(there)
        os.read(here, 1)  # until we have left
        for name, text in zip(("uid_map", "gid_map"), maps, strict=True):
            write(f"/proc/{us}/{name}", text)
        os._exit(0)
    os.close(here)
    check(libc.unshare(CLONE_NAMESPACES), "unshare")
    os.close(there)
    if os.waitpid(helper, 0)[1]:
        raise OSError("the users of the new namespace can't be set")


def give_up_privileges(user: int, group: int, *, changes: bool) -> None:
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    if changes:
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    check(libc.capset(header, nothing), "give up capabilities")
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a change of user has cleared it


def end_with(program: int) -> None:
    """Be the first process: bury what dies, until the program has ended; with us goes all that it started."""
    while True:
        process, status = os.wait()
        if process == program:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def set_limits(limits: dict[str, int]) -> None:
    for name, value in {"CORE": 0, "NOFILE": 64, **limits}.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of address space
            resource.setrlimit(number, (value, value))


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def run(program: str, mark: str, shows_value: bool) -> None:
    """Run the program; with shows_value print the value of an expression at its end, as an interpreter does."""
    stdout: Any = sys.stdout  # the program may put another in its place
    names: dict[str, Any] = {"__name__": "__main__"}
    tree = ast.parse(program, "program.py")
    last = tree.body.pop() if shows_value and tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "program.py", "exec"), names)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), "program.py", "eval"), names)
        if value is not None:
            print(repr(value))
    stdout.flush()
    stdout.buffer.raw.write(mark.encode())


def main() -> None:
    given = json.loads(sys.stdin.buffer.read())
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    os.umask(0o022)
    if given["way"] == "namespaces":
        try:
            build_walls(given["visible"], given["folder_size"])
        except (OSError, AttributeError) as error:
            sys.exit(f"no namespaces: {error}")
    if given["way"] != "limits":
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # nothing may trace or read this process
        program = os.fork()
        if program:
            end_with(program)
    os.umask(0o077)
    set_limits(given["limits"])
    run(given["program"], given["mark"], given["shows_value"])


main()
