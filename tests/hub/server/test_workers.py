"""How long an ended worker's place stays empty."""

from hub.server.workers import FIRST_PAUSE, LONGEST_PAUSE, WELL, WorkerProcess


def test_the_pause_grows_up_to_a_bound() -> None:
    """Twice as long each time that none has run well, and never longer than the bound."""
    worker, pauses = WorkerProcess(), []
    for now in range(0, 1200, 60):
        worker.started = now - 1.0
        worker.put_off(now)
        assert worker.due == now + worker.pause
        pauses.append(worker.pause)
    assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert pauses == sorted(pauses)


def test_the_pause_is_short_again_after_a_good_run() -> None:
    """One that accepted for long enough was well; one that only stood there for as long was not."""
    worker = WorkerProcess(pause=8.0, accepts=True, started=100.0)
    worker.put_off(100.0 + WELL)
    assert worker.pause == FIRST_PAUSE
    waiting = WorkerProcess(pause=8.0, accepts=False, started=100.0)
    waiting.put_off(100.0 + WELL)
    assert waiting.pause == 16.0
