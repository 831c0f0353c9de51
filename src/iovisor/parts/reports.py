"""Reports of what a rule did, for people: events that do not decide about the packet, and cannot become a flood.

Each number (a rule's counter) has an allowance of its own, so that a rule which matches all the time does not silence
one that matches once.  A report says how many packets of its number went unreported since the last, be it that only
one of `report_every` was wanted, that the allowance was used up, or that nobody emptied the queue.

The frame comes along, so the event needs no addresses: who reads reports reads them off the frame, in Python.
"""
from __future__ import annotations

from iovisor.language import Array, Component, Config, ConfigError, Packet, Record, now, table, u8, u16, u32

from .allowance import Allowance, take


class ReportsConfig(Config):
    """How many reports a second and rule, and of how many packets one is reported."""

    reports: u16 = 10
    report_every: u16 = 1

    def validate(self) -> None:
        super().validate()
        if self.report_every == 0:
            raise ConfigError("report_every", "one of 0 packets cannot be reported: 1 reports each")


class Report(Record):
    """`number` decided `decision`, and `missed` packets of it before were not reported."""

    number: u32
    missed: u32
    decision: u8


class Silence(Allowance):
    """The allowance of a number, and how many packets of it were not reported since the last that was."""

    missed: u32 = 0


class Reports(Component):
    config: ReportsConfig
    silences: Array[Silence] = table("counters")

    def tell(self, pkt: Packet, number: u32, decision: u8) -> None:
        """Report the packet, if it is its turn."""
        silence = self.silences[number]
        missed = silence.missed
        if missed + 1 >= self.config.report_every and take(silence, self.config.reports, now()):
            if pkt.notify(Report(number=number, missed=missed, decision=decision)):
                silence.missed = 0
                return
        silence.missed = missed + 1
