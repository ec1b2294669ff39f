"""The garbage collector of a server that stays."""

import gc

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.service import collector


class KeepTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.addCleanup(gc.unfreeze)
        self.addCleanup(gc.set_threshold, *gc.get_threshold())

    def test_what_there_is_is_left_out_of_later_collections(self) -> None:
        ring: list[object] = []
        ring.append(ring)
        collector.keep()
        self.assertGreater(gc.get_freeze_count(), 1000)
        self.assertNotIn(id(ring), {id(each) for each in gc.get_objects()})

    def test_called_again_it_gives_back_what_has_ended(self) -> None:
        class Old:
            def __init__(self) -> None:
                self.me = self

            def __del__(self) -> None:
                ended.append(True)

        ended: list[bool] = []
        old = Old()
        collector.keep()
        del old
        self.assertEqual(ended, [])
        collector.keep()
        self.assertEqual(ended, [True])
