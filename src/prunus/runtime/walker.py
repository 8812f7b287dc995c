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
from string import Template

from prunus.runtime.records import Record

SYMBOLS = ("run", "work", "spin", "wake", "ticks")
"""The functions that the host calls."""

POOL = Record(
    "Pool",
    apart=("arrived", "barrier", "barrier_sleepers", "job", "job_sleepers", "program", "stop"),
    arrived="i32",
    barrier="i32",
    barrier_sleepers="i32",
    job="i32",
    job_sleepers="i32",
    program="ptr",
    stop="i64",
    workers="i64",
    spins="i64",
)
"""What the workers of a pool share. Words to wait for are counters."""

PROGRAM = Record(
    "Program",
    whole_lines=True,
    steps="i64",
    records="ptr",
    claims="ptr",
    scratch="ptr",
    scratch_bytes="i64",
    trace="ptr",
    trace_bytes="i64",
)
"""A program: how many steps, their records and claims, the workers' scratch and the bytes of each,
and where they note what they did, with the bytes of each; 0 for nowhere."""

STEP = Record(
    "Step",
    arguments="ptr",
    kernel="ptr",
    tail_kernel="ptr",
    tail="i64",
    barrier="i64",
    chain="i64",
    units="i64",
)
"""A step: its words, the code for full tiles and for the last one, the first unit of that, whether
workers meet before it, how many records, from this one on, a claim stands for, and how many units
of this record."""

CLAIM = Record("Claim", whole_lines=True, next="i64", end="i64")
"""The units of a worker's share that are still to claim."""

TRACE = Record("Trace", count="i64", room="i64")
"""A worker's trace: events noted so far, and room for how many, which follow."""

EVENT = Record("Event", step="i64", unit="i64", begin="i64", end="i64")
"""The step, the unit (-1 for the wait at a barrier), and the ticks at its begin and end."""

RECORDS = (POOL, PROGRAM, STEP, CLAIM, TRACE, EVENT)

_LINUX_PARK = """
declare i64 @syscall(i64, ...)

; Sleeps while *word is still old. Operation 128 waits and 129 wakes, both within one process.
define internal void @park(ptr %word, i32 %old) {
  %r = call i64 (i64, ...) @syscall(i64 $futex, ptr %word, i64 128, i32 %old, ptr null)
  ret void
}

define internal void @unpark(ptr %word) {
  %r = call i64 (i64, ...) @syscall(i64 $futex, ptr %word, i64 129, i64 2147483647)
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
  call void asm sideeffect "$pause", ""()
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
  %arrived = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_arrived
  %barrier = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_barrier
  %sleepers = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_barrier_sleepers
  %old = load atomic i32, ptr %barrier acquire, align 4
  %before = atomicrmw add ptr %arrived, i32 1 acq_rel
  %count = trunc i64 %workers to i32
  %mine = add i32 %before, 1
  %last = icmp eq i32 %mine, %count
  br i1 %last, label %open, label %wait
open:
  store atomic i32 0, ptr %arrived release, align 4
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
  %count.at = getelementptr %Trace, ptr %trace, i64 0, i32 $Trace_count
  %count = load i64, ptr %count.at
  %room.at = getelementptr %Trace, ptr %trace, i64 0, i32 $Trace_room
  %room = load i64, ptr %room.at
  %more = add i64 %count, 1
  store i64 %more, ptr %count.at
  %fits = icmp ult i64 %count, %room
  br i1 %fits, label %write, label %done
write:
  %events = getelementptr %Trace, ptr %trace, i64 1
  %event = getelementptr %Event, ptr %events, i64 %count
  %step.at = getelementptr %Event, ptr %event, i64 0, i32 $Event_step
  store i64 %step, ptr %step.at
  %unit.at = getelementptr %Event, ptr %event, i64 0, i32 $Event_unit
  store i64 %unit, ptr %unit.at
  %begin.at = getelementptr %Event, ptr %event, i64 0, i32 $Event_begin
  store i64 %begin, ptr %begin.at
  %end.at = getelementptr %Event, ptr %event, i64 0, i32 $Event_end
  store i64 %end, ptr %end.at
  br label %done
done:
  ret void
}

; What one claim stands for: its units of each record of a chain, one record after the other.
define internal void @perform(ptr %record, i64 %step, i64 %claim, ptr %scratch, ptr %trace) {
entry:
  %chain.at = getelementptr %Step, ptr %record, i64 0, i32 $Step_chain
  %chain = load i64, ptr %chain.at
  br label %link
link:
  %c = phi i64 [ 0, %entry ], [ %c.next, %linked ]
  %here = getelementptr %Step, ptr %record, i64 %c
  %words.at = getelementptr %Step, ptr %here, i64 0, i32 $Step_arguments
  %words = load ptr, ptr %words.at
  %kernel.at = getelementptr %Step, ptr %here, i64 0, i32 $Step_kernel
  %kernel = load ptr, ptr %kernel.at
  %tail.kernel.at = getelementptr %Step, ptr %here, i64 0, i32 $Step_tail_kernel
  %tail.kernel = load ptr, ptr %tail.kernel.at
  %tail.at = getelementptr %Step, ptr %here, i64 0, i32 $Step_tail
  %tail = load i64, ptr %tail.at
  %units.at = getelementptr %Step, ptr %here, i64 0, i32 $Step_units
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
  %workers.at = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_workers
  %workers = load i64, ptr %workers.at
  %spins.at = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_spins
  %spins = load i64, ptr %spins.at
  %steps.at = getelementptr %Program, ptr %program, i64 0, i32 $Program_steps
  %steps = load i64, ptr %steps.at
  %records.at = getelementptr %Program, ptr %program, i64 0, i32 $Program_records
  %records = load ptr, ptr %records.at
  %claims.at = getelementptr %Program, ptr %program, i64 0, i32 $Program_claims
  %claims = load ptr, ptr %claims.at
  %scratch.at = getelementptr %Program, ptr %program, i64 0, i32 $Program_scratch
  %scratch.base = load ptr, ptr %scratch.at
  %stride.at = getelementptr %Program, ptr %program, i64 0, i32 $Program_scratch_bytes
  %stride = load i64, ptr %stride.at
  %offset = mul i64 %stride, %worker
  %scratch = getelementptr i8, ptr %scratch.base, i64 %offset
  %trace.at = getelementptr %Program, ptr %program, i64 0, i32 $Program_trace
  %trace.base = load ptr, ptr %trace.at
  %trace.bytes.at = getelementptr %Program, ptr %program, i64 0, i32 $Program_trace_bytes
  %trace.bytes = load i64, ptr %trace.bytes.at
  %trace.offset = mul i64 %trace.bytes, %worker
  %trace = getelementptr i8, ptr %trace.base, i64 %trace.offset
  br label %head
head:
  %s = phi i64 [ 0, %entry ], [ %s.next, %stepped ]
  %more = icmp ult i64 %s, %steps
  br i1 %more, label %step, label %finish
step:
  %record = getelementptr %Step, ptr %records, i64 %s
  %chain.at = getelementptr %Step, ptr %record, i64 0, i32 $Step_chain
  %chain = load i64, ptr %chain.at
  %barrier.at = getelementptr %Step, ptr %record, i64 0, i32 $Step_barrier
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
  %claim = getelementptr %Claim, ptr %claims, i64 %claim.index
  %next.at = getelementptr %Claim, ptr %claim, i64 0, i32 $Claim_next
  %end.at = getelementptr %Claim, ptr %claim, i64 0, i32 $Claim_end
  %end = load i64, ptr %end.at
  br label %take
take:
  %unit = atomicrmw add ptr %next.at, i64 1 monotonic
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
  %program.at = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_program
  store ptr %program, ptr %program.at
  %job = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_job
  %sleepers = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_job_sleepers
  call void @advance(ptr %job, ptr %sleepers)
  call void @walk(ptr %pool, ptr %program, i64 0)
  ret void
}

; A worker's life. It has seen no job when it starts, even if the first one is there already.
define void @work(ptr %pool, i64 %worker) {
entry:
  %job = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_job
  %sleepers = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_job_sleepers
  %spins.at = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_spins
  %stop.at = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_stop
  %program.at = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_program
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
  call void asm sideeffect "$pause", ""()
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %done
done:
  ret void
}

define void @wake(ptr %pool) {
  %job = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_job
  %sleepers = getelementptr %Pool, ptr %pool, i64 0, i32 $Pool_job_sleepers
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
  %now = call i64 asm sideeffect "mrs $$0, cntvct_el0", "=r"()
  ret i64 %now
}
"""


def walker_ir(triple: str) -> str:
    """The module's text for this system."""
    arm = triple.startswith("aarch64")
    park = _LINUX_PARK if sys.platform.startswith("linux") else _YIELD_PARK
    names = {"futex": 98 if arm else 202, "pause": "yield" if arm else "pause"}
    for record in RECORDS:
        names |= dict(record.indices())
    types = "\n".join(record.llvm for record in RECORDS)
    ticks = _ARM_TICKS if arm else _X86_TICKS
    code = Template(f"{park}{ticks}{_WALKER}").substitute(names)
    return f'target triple = "{triple}"\n{types}\n{code}'
