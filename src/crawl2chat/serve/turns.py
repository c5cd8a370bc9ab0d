"""Who is next: a client with many calls, or a call for many answers, does not keep the others waiting."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """First in, first out for each owner; owners take turns."""

    def __init__(self) -> None:
        self.queues: OrderedDict[Hashable, deque[Item]] = OrderedDict()  # the next owner first
        self.length = 0

    def __len__(self) -> int:
        return self.length

    def put(self, item: Item, owner: Hashable) -> None:
        self.queues.setdefault(owner, deque()).append(item)
        self.length += 1

    def get(self) -> Item:
        """The next one. Raises IndexError when nobody waits."""
        if not self.length:
            raise IndexError("nobody waits")
        owner, queue = next(iter(self.queues.items()))
        item = queue.popleft()
        self.length -= 1
        if queue:
            self.queues.move_to_end(owner)
        else:
            del self.queues[owner]
        return item

    def remove(self, item: Item, owner: Hashable) -> None:
        """Raises ValueError for one that does not wait."""
        queue = self.queues.get(owner, deque())
        queue.remove(item)
        self.length -= 1
        if not queue:
            del self.queues[owner]


class Turns(Generic[Item]):
    """Clients take turns, and so do the calls of each client; the items of a call are first in, first out."""

    def __init__(self) -> None:
        self.clients: OrderedDict[Hashable, FairQueue[Item]] = OrderedDict()  # the next one first

    def __len__(self) -> int:
        return sum(map(len, self.clients.values()))

    def put(self, item: Item, client: Hashable, call: Hashable) -> None:
        self.clients.setdefault(client, FairQueue()).put(item, call)

    def get(self) -> Item:
        """The next one. Raises IndexError when nobody waits."""
        if not self.clients:
            raise IndexError("nobody waits")
        client, calls = next(iter(self.clients.items()))
        item = calls.get()
        self.clients.move_to_end(client)
        if not len(calls):
            del self.clients[client]
        return item

    def remove(self, item: Item, client: Hashable, call: Hashable) -> None:
        """Raises ValueError for one that does not wait."""
        calls = self.clients.get(client, FairQueue())
        calls.remove(item, call)
        if not len(calls):
            del self.clients[client]
