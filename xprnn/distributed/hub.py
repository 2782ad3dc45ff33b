"""Processes that exchange bytes over TCP: all send theirs to rank 0, which sends all to each.

A rank that ends closes its connection, so the others learn of it at once.  The messages of a
training are short, and rank 0 needs some 50 us for each rank.
"""

import contextlib
import ipaddress
import json
import logging
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence

from xprnn.distributed.errors import LostRankError, mark_agreed
from xprnn.distributed.mpi import SLOW
from xprnn.distributed.variables import Place

GREETING = b"xprnn ranks 1\n"
"""What a process says first, so that strangers at the port are told apart."""
HEAD = struct.Struct("!cQ")
"""The kind of a message and its length."""
DATA, LOST = b"d", b"l"
LONGEST_GREETING = 4096
GREETED = 5.0
"""Seconds in which a process that connects must say who it is."""
PATIENCE = 1.5
"""How many times as long as rank 0 the others wait."""
AGAIN = 0.05
"""Seconds after which a rank tries again to reach rank 0."""

_log = logging.getLogger("xprnn")


class Hub:
    """The connections of a process with the others.

    Parameters
    ----------
    place : Place
    name : str
        This process in words.
    limit : float
        Seconds that it waits for the others.
    secret : callable
        Called on rank 0; what it returns is told to every rank.

    Attributes
    ----------
    names : list of str
        Each rank in words.
    told : bytes
        What rank 0's ``secret`` has returned.

    Raises
    ------
    LostRankError
        If the others do not come in time.
    RuntimeError
        If rank 0 can't listen, or the processes disagree about who they are.
    """

    def __init__(self, place: Place, name: str, limit: float, secret: Callable[[], bytes]) -> None:
        self._others: dict[int, socket.socket] = {}
        self.rank, self.size, self.limit = place.rank, place.size, limit
        self.names: list[str] = [name]
        if self.rank:
            self._join(place, name)
        else:
            self.told = secret()
            if self.size > 1:
                self._invite(place)

    def exchange(self, mine: bytes) -> list[bytes]:
        """Return the bytes of every rank, by rank.

        Raises
        ------
        LostRankError
            On every rank, if one has ended or does not answer.
        """
        if self.size == 1:
            return [mine]
        if self.rank:
            self._send(0, DATA, mine)
            return _apart(self._receive(0))
        every = [mine, *(self._receive(rank) for rank in range(1, self.size))]
        whole = _together(every)
        for rank in range(1, self.size):
            self._send(rank, DATA, whole)
        return every

    def check(self) -> None:
        """Find out whether a rank has ended, while this one waits for something else.

        Raises
        ------
        LostRankError
        """
        ready = select.select(list(self._others.values()), [], [], 0)[0]
        for rank, connection in self._others.items():
            if connection in ready:
                try:
                    head = connection.recv(1, socket.MSG_PEEK)
                except OSError:
                    head = b""
                if not head:
                    raise self._lost(rank, "has ended")
                if head == LOST:
                    self._receive(rank)

    def give_up(self, reason: str) -> LostRankError:
        """Tell the others of a lost rank; return the error to raise."""
        if not self.rank:
            for connection in self._others.values():
                with contextlib.suppress(OSError):
                    text = reason.encode()
                    connection.sendall(HEAD.pack(LOST, len(text)) + text)
        self.close()
        error = LostRankError(reason)
        mark_agreed(error)  # there is nobody to tell
        return error

    def close(self) -> None:
        """End the connections; the other ranks find that this one has ended."""
        for connection in self._others.values():
            connection.close()

    __del__ = close

    def _lost(self, rank: int, how: str) -> LostRankError:
        return self.give_up(
            f"{self.names[rank] if rank < len(self.names) else f'rank {rank}'} {how}; a training "
            "with a checkpoint goes on from it when it is started again to resume"
        )

    def _send(self, rank: int, kind: bytes, content: bytes) -> None:
        connection = self._others[rank]
        try:
            connection.settimeout(self.limit)
            connection.sendall(HEAD.pack(kind, len(content)) + content)
        except TimeoutError:
            raise self._lost(rank, f"did not answer for {self.limit:g} s") from None
        except OSError:
            # What it has said before it ended is the better reason.
            if self.rank:
                self._receive(rank)
            raise self._lost(rank, "has ended") from None

    def _receive(self, rank: int) -> bytes:
        kind, length = HEAD.unpack(self._read(rank, HEAD.size))
        content = self._read(rank, length)
        if kind == LOST:
            raise self.give_up(content.decode())
        return content

    def _read(self, rank: int, length: int) -> bytes:
        """Read so many bytes from a rank; name it if it is slow."""
        connection, found = self._others[rank], bytearray()
        start, named = time.monotonic(), False
        # Rank 0, which waits for all, knows best who is late, so it is the first to give up.
        slow, limit = min(SLOW, self.limit / 2), self.limit * (PATIENCE if self.rank else 1)
        while len(found) < length:
            waited = time.monotonic() - start
            if waited >= limit:
                raise self._lost(rank, f"did not answer for {self.limit:g} s")
            if waited >= slow and not named and not self.rank:
                named = True
                _log.warning("after %.0f s still waiting for %s", waited, self.names[rank])
            connection.settimeout((limit if named or self.rank else slow) - waited)
            try:
                part = connection.recv(min(length - len(found), 1 << 20))
            except TimeoutError:
                continue
            except OSError:
                part = b""
            if not part:
                raise self._lost(rank, "has ended")
            found += part
        return bytes(found)

    def _invite(self, place: Place) -> None:
        """Wait for the other ranks, and tell them what all of them know."""
        until = time.monotonic() + self.limit
        names: dict[int, str] = {0: self.names[0]}
        with _listening(place) as door:
            while len(names) < self.size:
                door.settimeout(max(until - time.monotonic(), 1e-3))
                try:
                    connection, _ = door.accept()
                except TimeoutError:
                    late = [f"{r}" for r in range(self.size) if r not in names]
                    raise self.give_up(
                        f"rank {', '.join(late)} did not connect to {place.address}:{place.port} "
                        f"within {self.limit:g} s"
                    ) from None
                greeting = _greeting(connection)
                if greeting is None:
                    connection.close()
                    continue
                rank, size, name = greeting
                wrong = ""
                if size != self.size:
                    wrong = f"WORLD_SIZE is {size} on {name}, and {self.size} on rank 0"
                elif rank in names or not 0 < rank < size:
                    wrong = f"RANK is {rank} on {name} and on {names.get(rank, 'none')}"
                self._others[rank if not wrong else -1] = connection
                if wrong:
                    raise RuntimeError(str(self.give_up(wrong)))
                names[rank] = name
        self.names = [names[rank] for rank in range(self.size)]
        welcome = json.dumps({"names": self.names, "told": self.told.hex()}).encode()
        for rank in range(1, self.size):
            _quick(self._others[rank])
            self._send(rank, DATA, welcome)

    def _join(self, place: Place, name: str) -> None:
        """Connect to rank 0, which may start later than this rank."""
        until, where = time.monotonic() + self.limit, f"{place.address}:{place.port}"
        self.names = [f"rank 0 at {where}"]
        while True:
            try:
                left = max(until - time.monotonic(), 1e-3)
                connection = socket.create_connection((place.address, place.port), left)
                break
            except OSError as error:
                if time.monotonic() + AGAIN > until:
                    raise self.give_up(
                        f"rank {place.rank} did not reach rank 0 at {where} within "
                        f"{self.limit:g} s ({error})"
                    ) from None
                time.sleep(AGAIN)
        _quick(connection)
        self._others[0] = connection
        me = json.dumps([place.rank, place.size, name]).encode()
        self._send(0, DATA, GREETING + me)
        welcome = json.loads(self._receive(0))
        self.names, self.told = welcome["names"], bytes.fromhex(welcome["told"])


def _listening(place: Place) -> socket.socket:
    """Return a socket that listens: to this machine alone where the address is of that kind."""
    try:
        found = socket.getaddrinfo(place.address, place.port, type=socket.SOCK_STREAM)[0]
        family, address = found[0], found[4]
        if not ipaddress.ip_address(str(address[0]).split("%")[0]).is_loopback:
            # The name may stand for another of the machine's addresses there than elsewhere.
            address = ("", place.port)
        return socket.create_server((str(address[0]), place.port), family=family)
    except OSError as error:
        raise RuntimeError(
            f"rank 0 can't listen at {place.address}:{place.port} ({error}): expected in "
            "MASTER_ADDR an address of rank 0's machine, and in MASTER_PORT a port that is free"
        ) from error


def _greeting(connection: socket.socket) -> tuple[int, int, str] | None:
    """Return a process's rank, size and name; None if it is none of ours."""
    found = b""
    connection.settimeout(GREETED)
    try:
        with contextlib.suppress(struct.error):
            while len(found) < HEAD.size:
                part = connection.recv(HEAD.size - len(found))
                if not part:
                    return None
                found += part
        length = HEAD.unpack(found)[1]
        if length > LONGEST_GREETING:
            return None
        found = b""
        while len(found) < length:
            part = connection.recv(length - len(found))
            if not part:
                return None
            found += part
        if not found.startswith(GREETING):
            return None
        rank, size, name = json.loads(found.removeprefix(GREETING))
        return int(rank), int(size), str(name)
    except (OSError, ValueError, TypeError):
        return None


def _quick(connection: socket.socket) -> None:
    """Let short messages leave at once."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _together(parts: Sequence[bytes]) -> bytes:
    return struct.pack(f"!{len(parts) + 1}Q", len(parts), *map(len, parts)) + b"".join(parts)


def _apart(whole: bytes) -> list[bytes]:
    (count,) = struct.unpack_from("!Q", whole)
    lengths, start, found = struct.unpack_from(f"!{count}Q", whole, 8), 8 * (count + 1), []
    for length in lengths:
        found.append(whole[start : start + length])
        start += length
    return found
