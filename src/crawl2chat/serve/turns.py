"""Who is next: a client with many calls, or a call for many answers, does not keep the others waiting."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from crawl2chat.generate.waiting import FairQueue

Item = TypeVar("Item")


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
