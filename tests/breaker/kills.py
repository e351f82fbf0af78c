"""Random kills: SIGKILL, SIGTERM and Ctrl-C of a training process, in the middle of saves and between them."""

import signal
import time

from tests.breaker.bench import Process, lines, resumed_step, same, train_words

LIVES = 3


def attempt(bench, rng) -> str:
    """End three lives of a run at random moments; the fourth ends as an undisturbed run."""
    run, promised, killed = bench.scratch / "run", 0, 0
    words = train_words(run, "--pause", "0.02")
    for life in range(LIVES):
        number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        process = Process(words, output=bench.scratch / f"life-{life}.txt")
        more, delay, in_save = lines(run) + rng.randrange(1, 9), rng.random() * 0.05, rng.random() < 0.5
        if process.wait_for(lambda more=more: lines(run) >= more) and in_save:
            process.wait_for(lambda: list(run.glob("checkpoints/*tmp*")))
            time.sleep(delay)
        process.kill(number)
        code, text = process.end()
        assert resumed_step(text) >= promised or code == -signal.SIGKILL, text
        finished = "finished at step" in text
        if number == signal.SIGKILL:
            assert code == -signal.SIGKILL or finished, text
        elif "preempted at step" in text:
            assert "finishing the step and saving" in text
            # Ctrl-C ends the process by the signal, and thus a shell's loop over seeds too.
            assert code == (0 if number == signal.SIGTERM else -signal.SIGINT), text
            promised = int(text.rpartition("preempted at step ")[2].split()[0])
            assert (run / "checkpoints" / str(promised)).is_dir(), text
        else:
            assert finished or code in (-signal.SIGTERM, -signal.SIGINT), text
        killed += not finished
        if finished:
            break
    code, text = Process(words, output=bench.scratch / "last.txt").end()
    assert code == 0, text
    assert "already finished" in text or resumed_step(text) >= promised, text
    same(run, bench.finished)
    return f"killed {killed} times, recovered"
