"""Message ids are Exim's, and never repeat."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.mail.msgid import RANGE, MessageIds, decode, encode, is_message_id


class MessageIdTests(SynchronousTestCase):
    def test_form(self) -> None:
        """The fields are second, number and fraction."""
        ids = MessageIds(lambda: 1700000000.5, random=lambda n: 7)
        id = ids()
        self.assertEqual(id, f"{encode(1700000000, 6)}-000007-{encode(1000, 2)}")
        self.assertTrue(is_message_id(id))

    def test_specifications_example(self) -> None:
        """16VDhn-0001bo-D3 is of 28 January 2002."""
        self.assertEqual(decode("16VDhn") // 86400, 11715)

    def test_unique_without_a_tick(self) -> None:
        """Ids drawn while the clock stands still differ."""
        ids = MessageIds(lambda: 5.0)
        self.assertEqual(len({ids() for _ in range(10000)}), 10000)

    def test_clock_set_back_with_a_wrapped_counter(self) -> None:
        """A clock that goes back does not bring an old second back."""
        now = [100.0]
        ids = MessageIds(lambda: now[0], random=lambda n: n - 1)
        first = ids()
        now[0] = 50.0
        self.assertEqual(decode(ids()[:6]), 100)
        self.assertNotEqual(first, ids())

    def test_workers_have_ranges_of_their_own(self) -> None:
        """The largest number of a worker is below the smallest of the next."""
        last = MessageIds(lambda: 1.0, worker=3, random=lambda n: n - 1)()
        first = MessageIds(lambda: 1.0, worker=4, random=lambda n: 0)()
        self.assertLess(last, first)
        self.assertEqual(decode(first[7:13]), 4 * RANGE)

    def test_counter_stays_in_the_workers_range(self) -> None:
        """After the last number of a range comes its first."""
        ids = MessageIds(lambda: 1.0, worker=2, random=lambda n: n - 1)
        ids()
        self.assertEqual(decode(ids()[7:13]), 2 * RANGE)

    def test_refused_forms(self) -> None:
        """Anything else is no message id."""
        for text in ("", "../../etc/passwd", "16VDhn-0001bo-D3\n", "16VDhn-0001bo-D", "x" * 16):
            self.assertFalse(is_message_id(text))

    @given(st.integers(0, 62**6 - 1))
    def test_base_62(self, number: int) -> None:
        """Encoding keeps number and order."""
        self.assertEqual(decode(encode(number, 6)), number)
