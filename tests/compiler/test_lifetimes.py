"""Records that are not needed at once share their room on the stack."""
from __future__ import annotations

from iovisor.language import FLOOD, Function, Hash, Packet, Ports, Record, Verdict, drop, ports, table, u64
from iovisor.testing import Arrival, agree, available


class Key(Record):
    first: u64
    second: u64
    third: u64
    fourth: u64
    fifth: u64


class Many(Function):
    """Looks 16 keys up, 640 bytes, leaving between them by every way there is."""

    ports: Ports = ports(2)
    seen: Hash[Key, u64] = table(64)
    kept: Hash[Key, u64] = table(64)

    def ingress(self, pkt: Packet) -> Verdict:
        found = 0
        for number in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13):
            key = Key(first=pkt.u8(number), second=number, third=0, fourth=0, fifth=1)
            again = key
            if key not in self.seen:
                self.seen[key] = number
                if pkt.u8(number) == 0x77:
                    break
                continue
            if pkt.u8(number) == 0x78:
                return drop(99)
            found = found + self.seen[again]
            self.kept[self.other(again)] = found & 0xff
        last = Key(first=found, second=1, third=2, fourth=3, fifth=4)
        self.kept[last] = 5
        self.kept[Key(first=6, second=found, third=0, fourth=0, fifth=0)] = 7
        return FLOOD

    def other(self, key: Key) -> Key:
        return Key(first=key.fifth, second=key.fourth, third=key.third, fourth=key.second, fifth=key.first)


def test_many_keys_fit_and_stay_themselves() -> None:
    frames = [bytes(14), bytes(14), bytes(range(14)), b"\x77" * 14, b"\x78" * 14, bytes(14), b"\x78" * 14]
    agree(Many, [Arrival(frame + bytes(46)) for frame in frames], [target for target in available()], every=1)
