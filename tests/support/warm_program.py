"""The programs `issuer` and `python` on the PATH of shell lines: they pass themselves on to `warm_driver`.

They begin with the line that `warm_programs` writes, end as the command does, and import only what is part of the
interpreter. A `python` that is not to run a module which the driver has imported is the real one.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import marshal
import posix
import sys

MODULES = {
    "issuer.cli": "issuer",
    "verifier_example": "verifier_example",
    "uvicorn": "uvicorn",
}
PYTHON = ["-P", "-m"]
PASSED_ON = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP)

program, arguments = "issuer", sys.argv[1:]
if sys.argv[0].endswith("/python"):
    if arguments[:2] != PYTHON or arguments[2] not in MODULES:
        posix.execv(sys.executable, [sys.executable, *arguments])
    program, arguments = MODULES[arguments[2]], arguments[3:]
environment = {
    name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
    for name, value in posix.environ.items()
}
umask = posix.umask(0)
text = marshal.dumps((program, arguments, posix.getcwd(), environment, umask))
streams = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
connection.connect(f"{sys.argv[0].rpartition('/')[0]}/socket")
connection.sendmsg([len(text).to_bytes(8, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
for number in PASSED_ON:
    _signal.signal(number, lambda which, _: connection.send(bytes([which])))
connection.sendall(text)
for stream in (0, 1, 2):
    posix.close(stream)  # a pipe ends with the command
answer = connection.recv(4)
code = int.from_bytes(answer, "big", signed=True) if answer else -_signal.SIGKILL
if code < 0:
    if -code in PASSED_ON:
        _signal.signal(-code, _signal.SIG_DFL)
    posix.kill(posix.getpid(), -code)
posix._exit(code)
