import tracemalloc

import pytest

from edge_core.mqtt.message import NO_RECEIPT, Receipt
from edge_core.mqtt.outgoing_messages import Acknowledgements, OutgoingMessages


def test_packet_ids_of_messages_without_an_acknowledgement_are_not_used_again() -> None:
    outgoing = OutgoingMessages()
    outgoing.add(2, None)
    outgoing.add(65535, None)
    ids = [outgoing.next_packet_id() for _ in range(65535)]
    assert ids[:2] == [1, 3]
    assert 2 not in ids
    assert 65535 not in ids
    # Ids run from 1 to 65,535 (MQTT 5.0, section 2.2.1) and then start over.
    assert ids.index(65534) == 65532
    assert ids[65533] == 1


def test_packet_ids_take_no_memory() -> None:
    outgoing = OutgoingMessages()
    outgoing.next_packet_id()
    tracemalloc.start()
    for _ in range(65_600):
        outgoing.next_packet_id()
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 10_000


def test_a_message_above_the_limit_is_held_until_an_earlier_one_is_acknowledged() -> None:
    outgoing, acknowledged = OutgoingMessages(), []
    outgoing.start_over(2)
    for packet_id in (1, 2, 3):
        assert outgoing.is_full == (packet_id == 3)
        outgoing.add(packet_id, acknowledged.append)
    outgoing.hold([b"header", b"payload"])
    assert outgoing.has_held

    callback, packet = outgoing.settle(2)
    assert callback is not None
    callback(16)
    assert (acknowledged, packet) == ([16], [b"header", b"payload"])
    assert not outgoing.has_held
    assert outgoing.is_full
    outgoing.settle(1)
    assert not outgoing.is_full


def test_an_unknown_acknowledgement_releases_no_held_message() -> None:
    outgoing = OutgoingMessages()
    outgoing.start_over(1)
    outgoing.add(1, None)
    outgoing.hold([b"packet"])
    assert outgoing.settle(7) == (None, [])
    assert outgoing.settle(1) == (None, [b"packet"])


def test_a_connect_forgets_messages_and_takes_the_new_limit() -> None:
    outgoing = OutgoingMessages()
    outgoing.start_over(1)
    outgoing.add(1, None)
    outgoing.hold([b"packet"])
    outgoing.start_over(2)
    assert not outgoing.has_held
    assert outgoing.settle(1) == (None, [])
    outgoing.add(1, None)
    assert not outgoing.is_full


@pytest.fixture
def acknowledgements() -> Acknowledgements:
    waiting = Acknowledgements()
    waiting.start_over()
    return waiting


def test_acknowledgements_wait_in_order_until_they_are_taken(
    acknowledgements: Acknowledgements,
) -> None:
    assert not acknowledgements
    acknowledgements.add(acknowledgements.receipt(1))
    acknowledgements.add(acknowledgements.receipt(0x1234))
    assert acknowledgements
    # PUBACK with the packet id in two bytes (MQTT 5.0, section 3.4).
    assert acknowledgements.take() == b"\x40\x02\x00\x01\x40\x02\x12\x34"
    assert not acknowledgements
    assert acknowledgements.take() == b""


@pytest.mark.parametrize("packet_id", [0, None])
def test_a_message_without_a_packet_id_needs_no_acknowledgement(
    acknowledgements: Acknowledgements, packet_id: int | None
) -> None:
    assert acknowledgements.packet(acknowledgements.receipt(packet_id)) == b""
    assert acknowledgements.packet(NO_RECEIPT) == b""


def test_a_message_of_an_earlier_connection_is_not_acknowledged(
    acknowledgements: Acknowledgements,
) -> None:
    receipt = acknowledgements.receipt(5)
    assert receipt == Receipt(5, 1)
    acknowledgements.add(receipt)
    acknowledgements.start_over()
    assert acknowledgements.take() == b""
    acknowledgements.add(receipt)
    assert acknowledgements.packet(receipt) == b""
    assert not acknowledgements
