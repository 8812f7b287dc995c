"""The native side of the pool, as LLVM IR: workers that wait, walk a program together, and meet at
barriers.

One call of `run` wakes the workers once; then every worker walks the whole program without the
interpreter. The units of a step are split evenly, each worker claims its own share one by one and
then helps the others, so a worker that the system delays costs one unit and not its share. A chain
of steps on one token tile is claimed as a whole (`chains.py`). Waiting spins for a bounded time and
then sleeps in the kernel: with pure spinning, 5 ms became 284 ms when another process took a core.
"""

from __future__ import annotations

import sys

SYMBOLS = ("run", "work", "spin", "wake", "ticks")
"""The functions that the host calls."""

# Byte offsets in the pool's memory; what different workers write lies in different cache lines.
ARRIVED = 0
BARRIER = 64
BARRIER_SLEEPERS = 128
JOB = 192
JOB_SLEEPERS = 256
PROGRAM = 320
STOP = 384
WORKERS = 448
SPINS = 456
POOL_BYTES = 512

# int64 words of a step's record and of a program's header.
STEP_WORDS = 8
STEP_ARGUMENTS, STEP_KERNEL, STEP_TAIL_KERNEL, STEP_TAIL, STEP_BARRIER = range(5)
STEP_CHAIN, STEP_UNITS = 5, 6
"""How many records, from this one on, a claim stands for; and how many units of this record."""
PROGRAM_WORDS = 8
PROGRAM_STEPS, PROGRAM_RECORDS, PROGRAM_CLAIMS, PROGRAM_SCRATCH, PROGRAM_SCRATCH_BYTES = range(5)
PROGRAM_TRACE, PROGRAM_TRACE_BYTES = 5, 6
"""Where workers note what they did, and the bytes of each; 0 for nowhere."""
CLAIM_BYTES = 64
"""A claim is the next unit and the end of a worker's share, in a cache line of its own."""

# int64 words of a worker's trace: events noted so far, room for how many, then the events.
TRACE_COUNT, TRACE_ROOM, TRACE_EVENTS = range(3)
EVENT_WORDS = 4
"""The step, the unit (-1 for the wait at a barrier), and the ticks at its begin and end."""

_LINUX_PARK = """
declare i64 @syscall(i64, ...)

; Sleeps while *word is still old. Operation 128 waits and 129 wakes, both within one process.
define internal void @park(ptr %word, i32 %old) {
  %r = call i64 (i64, ...) @syscall(i64 FUTEX, ptr %word, i64 128, i32 %old, ptr null)
  ret void
}

define internal void @unpark(ptr %word) {
  %r = call i64 (i64, ...) @syscall(i64 FUTEX, ptr %word, i64 129, i64 2147483647)
  ret void
}
"""

# Systems without futex give up their time slice instead: correct, but an idle worker is not asleep.
# Tested on no such system.
_YIELD_PARK = """
declare i32 @sched_yield()

define internal void @park(ptr %word, i32 %old) {
  %r = call i32 @sched_yield()
  ret void
}

define internal void @unpark(ptr %word) {
  ret void
}
"""

_WALKER = """
; Waits until *word is no longer old: spins a while, then sleeps. A sleeper counts itself before
; it looks again, and `advance` looks for sleepers after it has changed the word, so no wake-up is
; lost.
define internal void @await(ptr %word, ptr %sleepers, i32 %old, i64 %spins) {
entry:
  br label %spin
spin:
  %i = phi i64 [ 0, %entry ], [ %next, %pause ]
  %now = load atomic i32, ptr %word acquire, align 4
  %changed = icmp ne i32 %now, %old
  br i1 %changed, label %done, label %again
again:
  %next = add i64 %i, 1
  %enough = icmp uge i64 %next, %spins
  br i1 %enough, label %sleep, label %pause
pause:
  call void asm sideeffect "PAUSE", ""()
  br label %spin
sleep:
  %c = atomicrmw add ptr %sleepers, i32 1 seq_cst
  br label %look
look:
  %then = load atomic i32, ptr %word seq_cst, align 4
  %moved = icmp ne i32 %then, %old
  br i1 %moved, label %awake, label %rest
rest:
  call void @park(ptr %word, i32 %old)
  br label %look
awake:
  %d = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %done
done:
  ret void
}

define internal void @advance(ptr %word, ptr %sleepers) {
entry:
  %old = atomicrmw add ptr %word, i32 1 seq_cst
  %asleep = load atomic i32, ptr %sleepers seq_cst, align 4
  %any = icmp sgt i32 %asleep, 0
  br i1 %any, label %wake, label %done
wake:
  call void @unpark(ptr %word)
  br label %done
done:
  ret void
}

; The last worker to arrive opens the barrier for the others.
define internal void @meet(ptr %pool, i64 %workers, i64 %spins) {
entry:
  %single = icmp eq i64 %workers, 1
  br i1 %single, label %done, label %arrive
arrive:
  %barrier = getelementptr i8, ptr %pool, i64 BARRIER_AT
  %sleepers = getelementptr i8, ptr %pool, i64 BARRIER_SLEEPERS_AT
  %old = load atomic i32, ptr %barrier acquire, align 4
  %before = atomicrmw add ptr %pool, i32 1 acq_rel
  %count = trunc i64 %workers to i32
  %mine = add i32 %before, 1
  %last = icmp eq i32 %mine, %count
  br i1 %last, label %open, label %wait
open:
  store atomic i32 0, ptr %pool release, align 4
  call void @advance(ptr %barrier, ptr %sleepers)
  br label %done
wait:
  call void @await(ptr %barrier, ptr %sleepers, i32 %old, i64 %spins)
  br label %done
done:
  ret void
}

; The clock, if there is a trace to write it to.
define internal i64 @now(ptr %trace) {
entry:
  %tracing = icmp ne ptr %trace, null
  br i1 %tracing, label %read, label %done
read:
  %ticks = call i64 @ticks()
  br label %done
done:
  %result = phi i64 [ 0, %entry ], [ %ticks, %read ]
  ret i64 %result
}

; Notes an event that began then and ends now, if there is a trace with room left.
define internal void @note(ptr %trace, i64 %step, i64 %unit, i64 %begin) {
entry:
  %tracing = icmp ne ptr %trace, null
  br i1 %tracing, label %look, label %done
look:
  %end = call i64 @ticks()
  %count = load i64, ptr %trace
  %room.at = getelementptr i64, ptr %trace, i64 1
  %room = load i64, ptr %room.at
  %more = add i64 %count, 1
  store i64 %more, ptr %trace
  %fits = icmp ult i64 %count, %room
  br i1 %fits, label %write, label %done
write:
  %offset = mul i64 %count, EVENT_WORDS
  %first = add i64 %offset, TRACE_EVENTS
  %event = getelementptr i64, ptr %trace, i64 %first
  store i64 %step, ptr %event
  %unit.at = getelementptr i64, ptr %event, i64 1
  store i64 %unit, ptr %unit.at
  %begin.at = getelementptr i64, ptr %event, i64 2
  store i64 %begin, ptr %begin.at
  %end.at = getelementptr i64, ptr %event, i64 3
  store i64 %end, ptr %end.at
  br label %done
done:
  ret void
}

; What one claim stands for: its units of each record of a chain, one record after the other.
define internal void @perform(ptr %record, i64 %step, i64 %claim, ptr %scratch, ptr %trace) {
entry:
  %chain.at = getelementptr i64, ptr %record, i64 STEP_CHAIN
  %chain = load i64, ptr %chain.at
  br label %link
link:
  %c = phi i64 [ 0, %entry ], [ %c.next, %linked ]
  %offset = mul i64 %c, STEP_WORDS
  %here = getelementptr i64, ptr %record, i64 %offset
  %words = load ptr, ptr %here
  %kernel.at = getelementptr i64, ptr %here, i64 1
  %kernel = load ptr, ptr %kernel.at
  %tail.kernel.at = getelementptr i64, ptr %here, i64 2
  %tail.kernel = load ptr, ptr %tail.kernel.at
  %tail.at = getelementptr i64, ptr %here, i64 3
  %tail = load i64, ptr %tail.at
  %units.at = getelementptr i64, ptr %here, i64 STEP_UNITS
  %units = load i64, ptr %units.at
  %first = mul i64 %claim, %units
  %end = add i64 %first, %units
  %number = add i64 %step, %c
  br label %unit
unit:
  %u = phi i64 [ %first, %link ], [ %u.next, %unit ]
  %in.tail = icmp uge i64 %u, %tail
  %which = select i1 %in.tail, ptr %tail.kernel, ptr %kernel
  %begin = call i64 @now(ptr %trace)
  call void %which(ptr %words, i64 %u, ptr %scratch)
  call void @note(ptr %trace, i64 %number, i64 %u, i64 %begin)
  %u.next = add i64 %u, 1
  %more = icmp ult i64 %u.next, %end
  br i1 %more, label %unit, label %linked
linked:
  %c.next = add i64 %c, 1
  %longer = icmp ult i64 %c.next, %chain
  br i1 %longer, label %link, label %done
done:
  ret void
}

; Every step of the program: a barrier where it needs one, then units from one's own share, then
; from the others'.
define internal void @walk(ptr %pool, ptr %program, i64 %worker) {
entry:
  %workers.at = getelementptr i8, ptr %pool, i64 WORKERS_AT
  %workers = load i64, ptr %workers.at
  %spins.at = getelementptr i8, ptr %pool, i64 SPINS_AT
  %spins = load i64, ptr %spins.at
  %steps = load i64, ptr %program
  %records.at = getelementptr i64, ptr %program, i64 1
  %records = load ptr, ptr %records.at
  %claims.at = getelementptr i64, ptr %program, i64 2
  %claims = load ptr, ptr %claims.at
  %scratch.at = getelementptr i64, ptr %program, i64 3
  %scratch.base = load ptr, ptr %scratch.at
  %stride.at = getelementptr i64, ptr %program, i64 4
  %stride = load i64, ptr %stride.at
  %offset = mul i64 %stride, %worker
  %scratch = getelementptr i8, ptr %scratch.base, i64 %offset
  %trace.at = getelementptr i64, ptr %program, i64 PROGRAM_TRACE
  %trace.base = load ptr, ptr %trace.at
  %trace.bytes.at = getelementptr i64, ptr %program, i64 PROGRAM_TRACE_BYTES
  %trace.bytes = load i64, ptr %trace.bytes.at
  %trace.offset = mul i64 %trace.bytes, %worker
  %trace = getelementptr i8, ptr %trace.base, i64 %trace.offset
  br label %head
head:
  %s = phi i64 [ 0, %entry ], [ %s.next, %stepped ]
  %more = icmp ult i64 %s, %steps
  br i1 %more, label %step, label %finish
step:
  %record.offset = mul i64 %s, STEP_WORDS
  %record = getelementptr i64, ptr %records, i64 %record.offset
  %chain.at = getelementptr i64, ptr %record, i64 STEP_CHAIN
  %chain = load i64, ptr %chain.at
  %barrier.at = getelementptr i64, ptr %record, i64 4
  %barrier = load i64, ptr %barrier.at
  %needed = icmp ne i64 %barrier, 0
  br i1 %needed, label %meeting, label %shares
meeting:
  %arrival = call i64 @now(ptr %trace)
  call void @meet(ptr %pool, i64 %workers, i64 %spins)
  call void @note(ptr %trace, i64 %s, i64 -1, i64 %arrival)
  br label %shares
shares:
  %first.claim = mul i64 %s, %workers
  br label %share
share:
  %v = phi i64 [ 0, %shares ], [ %v.next, %exhausted ]
  %shares.left = icmp ult i64 %v, %workers
  br i1 %shares.left, label %claim.from, label %stepped
claim.from:
  %shifted = add i64 %worker, %v
  %whose = urem i64 %shifted, %workers
  %claim.index = add i64 %first.claim, %whose
  %claim.offset = mul i64 %claim.index, CLAIM_BYTES
  %claim = getelementptr i8, ptr %claims, i64 %claim.offset
  %end.at = getelementptr i64, ptr %claim, i64 1
  %end = load i64, ptr %end.at
  br label %take
take:
  %unit = atomicrmw add ptr %claim, i64 1 monotonic
  %got = icmp ult i64 %unit, %end
  br i1 %got, label %work, label %exhausted
work:
  call void @perform(ptr %record, i64 %s, i64 %unit, ptr %scratch, ptr %trace)
  br label %take
exhausted:
  %v.next = add i64 %v, 1
  br label %share
stepped:
  %s.next = add i64 %s, %chain
  br label %head
finish:
  ; Only for the worker that called: the others may come from this meeting after the call has ended,
  ; when the trace is gone.
  %calling = icmp eq i64 %worker, 0
  %end.trace = select i1 %calling, ptr %trace, ptr null
  %finished = call i64 @now(ptr %end.trace)
  call void @meet(ptr %pool, i64 %workers, i64 %spins)
  call void @note(ptr %end.trace, i64 %steps, i64 -1, i64 %finished)
  ret void
}

define void @run(ptr %pool, ptr %program) {
  %program.at = getelementptr i8, ptr %pool, i64 PROGRAM_AT
  store ptr %program, ptr %program.at
  %job = getelementptr i8, ptr %pool, i64 JOB_AT
  %sleepers = getelementptr i8, ptr %pool, i64 JOB_SLEEPERS_AT
  call void @advance(ptr %job, ptr %sleepers)
  call void @walk(ptr %pool, ptr %program, i64 0)
  ret void
}

; A worker's life. It has seen no job when it starts, even if the first one is there already.
define void @work(ptr %pool, i64 %worker) {
entry:
  %job = getelementptr i8, ptr %pool, i64 JOB_AT
  %sleepers = getelementptr i8, ptr %pool, i64 JOB_SLEEPERS_AT
  %spins.at = getelementptr i8, ptr %pool, i64 SPINS_AT
  %stop.at = getelementptr i8, ptr %pool, i64 STOP_AT
  %program.at = getelementptr i8, ptr %pool, i64 PROGRAM_AT
  br label %next
next:
  %seen = phi i32 [ 0, %entry ], [ %job.now, %job.do ]
  %spins = load i64, ptr %spins.at
  call void @await(ptr %job, ptr %sleepers, i32 %seen, i64 %spins)
  %job.now = load atomic i32, ptr %job acquire, align 4
  %stop = load atomic i64, ptr %stop.at acquire, align 8
  %stopping = icmp ne i64 %stop, 0
  br i1 %stopping, label %done, label %job.do
job.do:
  %program = load ptr, ptr %program.at
  call void @walk(ptr %pool, ptr %program, i64 %worker)
  br label %next
done:
  ret void
}

; For the host to measure how long a spin takes, and to wake the workers when it stops them.
define void @spin(ptr %pool, i64 %count) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %now = load atomic i32, ptr %pool acquire, align 4
  call void asm sideeffect "PAUSE", ""()
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %done
done:
  ret void
}

define void @wake(ptr %pool) {
  %job = getelementptr i8, ptr %pool, i64 JOB_AT
  %sleepers = getelementptr i8, ptr %pool, i64 JOB_SLEEPERS_AT
  call void @advance(ptr %job, ptr %sleepers)
  ret void
}
"""


# Time that all processors share: cycles of a constant rate on x86, the generic timer on Arm, whose
# cycle counter is the kernel's own.
_X86_TICKS = """
declare i64 @llvm.readcyclecounter()

define i64 @ticks() {
  %now = call i64 @llvm.readcyclecounter()
  ret i64 %now
}
"""
_ARM_TICKS = """
define i64 @ticks() {
  %now = call i64 asm sideeffect "mrs $0, cntvct_el0", "=r"()
  ret i64 %now
}
"""


def walker_ir(triple: str) -> str:
    """The module's text for this system."""
    arm = triple.startswith("aarch64")
    park = _LINUX_PARK if sys.platform.startswith("linux") else _YIELD_PARK
    names = {
        "FUTEX": 98 if arm else 202,
        "PAUSE": "yield" if arm else "pause",
        "BARRIER_SLEEPERS_AT": BARRIER_SLEEPERS,
        "JOB_SLEEPERS_AT": JOB_SLEEPERS,
        "BARRIER_AT": BARRIER,
        "JOB_AT": JOB,
        "PROGRAM_AT": PROGRAM,
        "STOP_AT": STOP,
        "WORKERS_AT": WORKERS,
        "SPINS_AT": SPINS,
        "STEP_WORDS": STEP_WORDS,
        "STEP_CHAIN": STEP_CHAIN,
        "STEP_UNITS": STEP_UNITS,
        "PROGRAM_TRACE_BYTES": PROGRAM_TRACE_BYTES,
        "PROGRAM_TRACE": PROGRAM_TRACE,
        "TRACE_EVENTS": TRACE_EVENTS,
        "EVENT_WORDS": EVENT_WORDS,
        "CLAIM_BYTES": CLAIM_BYTES,
    }
    ticks = _ARM_TICKS if arm else _X86_TICKS
    text = f'target triple = "{triple}"\n{park}{ticks}{_WALKER}'
    for name, value in names.items():
        text = text.replace(name, str(value))
    return text
