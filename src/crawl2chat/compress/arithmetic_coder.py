"""A range coder: symbols of known probabilities to bytes and back, in whole numbers, so exactly.

A message is an interval within [0, 1): each symbol takes a part of it that is as wide as the symbol is probable
(G. N. N. Martin, "Range encoding: an algorithm for removing redundancy from a digitised message", 1979). A message
takes Σ −log2 p bits, and two bytes more at most: the interval's width is kept to 48 bits or more, and a total of
2^TOTAL_BITS cuts off less than 2^−18 of it at a symbol.

A symbol is given by two cumulative frequencies out of 2^TOTAL_BITS: of all symbols before it, and those with its own.
"""

TOTAL_BITS = 30
TOTAL = 1 << TOTAL_BITS
STATE_BITS = 64
STATE = 1 << STATE_BITS
NARROWEST = 1 << (STATE_BITS - 16)  # below, the interval is widened by a byte


class Encoder:
    def __init__(self) -> None:
        self.low, self.range = 0, STATE - 1
        self.written = bytearray()

    def encode(self, start: int, end: int) -> None:
        """Take a symbol with the cumulative frequencies 0 ≤ start < end ≤ TOTAL."""
        unit = self.range >> TOTAL_BITS
        self.low += unit * start
        self.range = unit * (end - start)
        self._carry()
        while self.range < NARROWEST:
            self.written.append(self.low >> (STATE_BITS - 8))
            self.low = (self.low << 8) % STATE
            self.range <<= 8

    def finish(self) -> bytes:
        """The whole message: the interval's number with the fewest bytes. Zeros at its end are left out."""
        for shift in range(STATE_BITS - 8, -1, -8):
            number = -(-self.low >> shift) << shift
            if number < self.low + self.range:
                break
        self.low = number
        self._carry()
        self.written += self.low.to_bytes(STATE_BITS // 8, "big")
        return bytes(self.written).rstrip(b"\0")

    def _carry(self) -> None:
        """Add what has grown beyond the state to the bytes that are written."""
        if self.low >= STATE:
            self.low -= STATE
            place = len(self.written) - 1
            while self.written[place] == 0xFF:
                self.written[place] = 0
                place -= 1
            self.written[place] += 1


class Decoder:
    def __init__(self, message: bytes) -> None:
        self.message, self.place = message, STATE_BITS // 8
        self.number = int.from_bytes(message[: self.place].ljust(self.place, b"\0"), "big")  # above the interval's low
        self.range = STATE - 1

    def target(self) -> int:
        """A number below TOTAL that lies within the next symbol: start ≤ target < end."""
        return min(self.number // (self.range >> TOTAL_BITS), TOTAL - 1)

    def take(self, start: int, end: int) -> None:
        """Go on behind the symbol that was found, with the cumulative frequencies that it was encoded with."""
        unit = self.range >> TOTAL_BITS
        self.number -= unit * start
        self.range = unit * (end - start)
        while self.range < NARROWEST:
            following = self.message[self.place] if self.place < len(self.message) else 0
            self.number = (self.number << 8) % STATE | following
            self.place += 1
            self.range <<= 8
