"""Run one stage of a model in a minimal program, over MQTT or over plain TCP without a broker.

    python benchmarks/bare_stages.py BUNDLE 0 --port 1883                    # topic chain/0
    python benchmarks/bare_stages.py BUNDLE 0 --listen 4000 --next 4001      # TCP

The program has one thread, and the interpreter uses no further threads. The program receives a
request, runs the stage, and sends the result to the next stage. The last stage sends the result to
the client. MQTT messages are sent by `bare_mqtt.py`. A message over TCP is a request id of 8 bytes
and the tensors. Both ends know the size of the tensors.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from pathlib import Path

from bare_mqtt import BareClient

from edge_core.contract.manifest import Manifest
from edge_core.runtime.stage_interpreter import StageInterpreter

ID_BYTES = 8
#: The tensors begin at a multiple of this number of bytes, because the interpreter copies tensors
#: that are not aligned.
_ALIGNED_TO = 64


def serve_mqtt(interpreter: StageInterpreter, client: BareClient, after: bytes) -> None:
    """Run the stage on each message, and send each result to the topic ``after``.

    If ``after`` is empty, the result goes to the response topic of the request.
    """
    while True:
        message = client.receive()
        client.publish(
            after or message.response_topic,
            interpreter.invoke(message.payload),
            response_topic=message.response_topic if after else b"",
            correlation_data=message.correlation_data,
        )


def serve_tcp(interpreter: StageInterpreter, source: TcpEnd, target: TcpEnd) -> None:
    while True:
        number, payload = source.receive()
        target.send(number, interpreter.invoke(payload))


class TcpEnd:
    """One end of a TCP connection between two stages, or between the client and a stage."""

    def __init__(self, link: socket.socket, receive_bytes: int = 0) -> None:
        """Prepare the buffer for messages that come in.

        Args:
            link: The connection.
            receive_bytes: Size of the tensors in each message that comes in, in bytes.
        """
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._link = link
        whole = memoryview(bytearray(_ALIGNED_TO + receive_bytes))
        self._message = whole[_ALIGNED_TO - ID_BYTES :]

    def send(self, number: bytes, payload: bytes) -> None:
        sent = self._link.sendmsg((number, payload))
        if sent < ID_BYTES + len(payload):
            self._link.sendall(memoryview(payload)[sent - ID_BYTES :])

    def receive(self) -> tuple[bytes, memoryview]:
        """Return the next request id and the tensors. The next call overwrites the tensors."""
        got = 0
        while got < len(self._message):
            more = self._link.recv_into(self._message[got:])
            if not more:
                raise ConnectionError("The other end of the chain closed the connection.")
            got += more
        return bytes(self._message[:ID_BYTES]), self._message[ID_BYTES:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="folder that `edge-partition split` wrote")
    parser.add_argument("stage", type=int, help="index of the stage")
    parser.add_argument("--port", type=int, help="port of the broker, for MQTT")
    parser.add_argument("--listen", type=int, help="port to listen on, for TCP")
    parser.add_argument("--next", type=int, help="port to send results to, for TCP")
    options = parser.parse_args()
    manifest = Manifest.from_json((options.bundle / "manifest.json").read_bytes())
    stage = manifest.stages[options.stage]
    interpreter = StageInterpreter(
        options.bundle / stage.file,
        stage.inputs,
        manifest.sent_by(stage.index),
        num_threads=1,
    )
    if options.port:
        after = f"chain/{stage.index + 1}" if stage.index + 1 < len(manifest.stages) else ""
        with BareClient(options.port, f"chain-{stage.index}", timeout_s=0) as client:
            client.subscribe(f"chain/{stage.index}")
            print("ready", flush=True)
            serve_mqtt(interpreter, client, after.encode())
    with socket.create_server(("127.0.0.1", options.listen)) as server:
        print("ready", flush=True)
        target = TcpEnd(socket.create_connection(("127.0.0.1", options.next), 20))
        source = TcpEnd(server.accept()[0], interpreter.input_bytes)
        serve_tcp(interpreter, source, target)


if __name__ == "__main__":
    # The benchmark ends the client first, and then this program.
    with contextlib.suppress(KeyboardInterrupt, ConnectionError):
        sys.exit(main())
