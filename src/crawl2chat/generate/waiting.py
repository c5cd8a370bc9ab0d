"""Who is next: in order of arrival, but nobody's many requests before somebody else's one."""

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
