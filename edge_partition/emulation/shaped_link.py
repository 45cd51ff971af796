"""A slow link: a TCP proxy in front of the broker, with a given bandwidth and delay.

Both directions share the bandwidth, as on Wi-Fi and in the cost model. The proxy's buffers are
small, so TCP slows down a sender that is faster than the link, as in a slow network.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import selectors
import socket

#: Longest time of one chunk on the link, in seconds: short enough for messages to share the link,
#: and long enough for this program to keep up with the link.
_CHUNK_S = 0.000_5
_LEAST_CHUNK_BYTES = 1024
_MOST_CHUNK_BYTES = 65_536
#: Largest number of chunks that the delay holds in one direction.
_CHUNKS_IN_FLIGHT = 64
#: A sleep lasts longer than requested. If the link sends a chunk late by less than this time, in
#: seconds, the link makes up for the delay.
_LATE_S = 0.000_5


class ShapedLink:
    """A link whose two directions share the bandwidth.

    Data of both directions leaves in the order of the calls of :meth:`send`.

    Args:
        mbit_s: Bandwidth of both directions together, in 10^6 bits per second.
        delay_ms: One-way delay, in milliseconds.
    """

    def __init__(self, mbit_s: float, delay_ms: float) -> None:
        self._seconds_per_byte = 8 / (mbit_s * 1e6)
        self._delay_s = delay_ms / 1000
        self._free_at = 0.0
        chunk_bytes = int(_CHUNK_S / self._seconds_per_byte)
        self._chunk_bytes = min(_MOST_CHUNK_BYTES, max(_LEAST_CHUNK_BYTES, chunk_bytes))

    def send(self, size_bytes: int, now: float) -> tuple[float, float]:
        """Put ``size_bytes`` bytes on the link at time ``now``.

        Returns:
            The time at which all bytes have left the sender, and the time at which all bytes have
            arrived, in seconds.
        """
        self._free_at = max(self._free_at, now) + size_bytes * self._seconds_per_byte
        return self._free_at, self._free_at + self._delay_s

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy the data of one direction of a connection over the link, until the sender closes."""
        clock = asyncio.get_running_loop().time
        arriving: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_IN_FLIGHT)

        async def deliver() -> None:
            while True:
                arrives_at, data = await arriving.get()
                await asyncio.sleep(max(0.0, arrives_at - clock()))
                if not data:
                    break
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

        delivery = asyncio.create_task(deliver())
        left_at = 0.0
        try:
            while data := await reader.read(self._chunk_bytes):
                now = clock()
                left_at, arrives_at = self.send(
                    len(data), left_at if now - left_at < _LATE_S else now
                )
                await arriving.put((arrives_at, data))
                await asyncio.sleep(max(0.0, left_at - clock()))
            await arriving.put((clock(), b""))
            await delivery
        finally:
            delivery.cancel()


async def serve(link: ShapedLink, host: str, port: int) -> None:
    """Listen on a free loopback port, print the port number, and forward connections."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.closing(writer):
                far_reader, far_writer = await asyncio.open_connection(host, port)
                with contextlib.closing(far_writer):
                    for end in (writer, far_writer):
                        end.get_extra_info("socket").setsockopt(
                            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
                        )
                    async with asyncio.TaskGroup() as ways:
                        ways.create_task(link.carry(reader, far_writer))
                        ways.create_task(link.carry(far_reader, writer))
        except* OSError:
            pass  # One end closed the connection; both ends are closed now.

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    async with server:
        await server.serve_forever()


def main() -> None:
    """Emulate one link until the process is ended."""
    parser = argparse.ArgumentParser(description="Carry TCP connections over a slow link.")
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="the broker")
    parser.add_argument("--mbit-s", type=float, required=True, help="Mbit/s, both directions")
    parser.add_argument("--delay-ms", type=float, required=True, help="one-way delay")
    options = parser.parse_args()
    host, _, port = options.to.rpartition(":")
    link = ShapedLink(options.mbit_s, options.delay_ms)

    def make_loop() -> asyncio.AbstractEventLoop:
        # With epoll, asyncio rounds waits up to whole milliseconds; select takes microseconds.
        return asyncio.SelectorEventLoop(selectors.SelectSelector())

    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(serve(link, host, int(port)))


if __name__ == "__main__":
    main()
