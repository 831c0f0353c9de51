"""Tables for native code, as LLVM IR: text that a compiled function carries with it, so that LLVM may inline it.

Four operations on the block of memory that native_tables_layout.py draws, each `nounwind`, none calling back:

    ptr @iov_lookup(ptr table, ptr key)                 the value, or null
    i64 @iov_update(ptr table, ptr key, ptr value, i64 mode)
                                                        0, or 1: refused; the mode is 0 any, 1 new only, 2 present only
    i64 @iov_delete(ptr table, ptr key)                 1 if it was there; an array's entries cannot be deleted
    ptr @iov_next(ptr table, ptr cursor)                the next entry, or null; the cursor is an i64 that begins at 0

Who knows a table's kind calls `@iov_lookup_hash`, `_lru`, `_lpm` or `_array` and saves the dispatch.  `iov_next` is the
control side's: the key lies KEY bytes into the entry, the value `value_offset`.  Of an array it answers the value, and
the cursor before the call was the index.

What order an lru evicts in is PythonHome's: lookups and updates that are not refused make an entry the newest.  A
prefix longer than the address is refused, where PythonHome would keep it: a length is an index here.

Rejected: a bitmap scan or a trie for prefixes (a probe per length *present* is a handful of hashes in any real table,
and leaves one implementation of insertion and deletion to get right); `memcmp` (keys are short: one or two words);
struct types, metadata, attribute groups and `declare`s in the text (they can clash with the module it is appended to;
LLVM knows its own intrinsics undeclared).
"""
from __future__ import annotations

from string import Template

from .native_tables_layout import HEADER, KEY, KINDS, LONGEST_PREFIX, NEWER, OLDER, PARTS, TAG

#: What the text defines for its user; the rest is internal to it.
EXPORTS = ("iov_lookup", "iov_lookup_hash", "iov_lookup_lru", "iov_lookup_lpm", "iov_lookup_array",
           "iov_update", "iov_delete", "iov_next")

_LOOKUP = """
; ---- lookup ----------------------------------------------------------------------------------------------------------

define linkonce_odr ptr @iov_lookup_array(ptr %table, ptr %key) alwaysinline nounwind {
  %short = load i32, ptr %key, align 1
  %index = zext i32 %short to i64
  %capacity = call i64 @iov_get(ptr %table, i64 $capacity)
  %there = icmp ult i64 %index, %capacity
  %value = call ptr @iov_entry(ptr %table, i64 %index)
  %found = select i1 %there, ptr %value, ptr null
  ret ptr %found
}

define linkonce_odr ptr @iov_lookup_hash(ptr %table, ptr %key) nounwind {
  %size = call i64 @iov_get(ptr %table, i64 $key_size)
  %tag = call i64 @iov_tag(ptr %table, ptr %key, i64 %size)
  %number = call i64 @iov_find(ptr %table, ptr %key, i64 %size, i64 %tag)
  %absent = icmp eq i64 %number, 0
  %entry = call ptr @iov_entry(ptr %table, i64 %number)
  %value = call ptr @iov_value(ptr %table, ptr %entry)
  %found = select i1 %absent, ptr null, ptr %value
  ret ptr %found
}

define linkonce_odr ptr @iov_lookup_lru(ptr %table, ptr %key) nounwind {
  %size = call i64 @iov_get(ptr %table, i64 $key_size)
  %tag = call i64 @iov_tag(ptr %table, ptr %key, i64 %size)
  %number = call i64 @iov_find(ptr %table, ptr %key, i64 %size, i64 %tag)
  %absent = icmp eq i64 %number, 0
  br i1 %absent, label %none, label %present
none:
  ret ptr null
present:
  %entry = call ptr @iov_entry(ptr %table, i64 %number)
  call void @iov_renew(ptr %table, ptr %entry, i64 %number)
  %value = call ptr @iov_value(ptr %table, ptr %entry)
  ret ptr %value
}

; probes the lengths present from the longest; each is cut out of what the one before left
define linkonce_odr ptr @iov_lookup_lpm(ptr %table, ptr %key) nounwind {
start:
  %prefix = alloca [$longest_prefix x i8], align 8
  %size = call i64 @iov_get(ptr %table, i64 $key_size)
  call void @llvm.memcpy.p0.p0.i64(ptr %prefix, ptr %key, i64 %size, i1 false)
  %limit = load i32, ptr %prefix, align 8
  %address = getelementptr inbounds i8, ptr %prefix, i64 4
  %bytes = sub i64 %size, 4
  %order = call ptr @iov_part(ptr %table, i64 $order)
  %lengths = call i64 @iov_get(ptr %table, i64 $lengths)
  br label %step
step:
  %position = phi i64 [ 0, %start ], [ %next, %probe ], [ %next, %search ]
  %more = icmp ult i64 %position, %lengths
  br i1 %more, label %probe, label %none
none:
  ret ptr null
probe:
  %place = getelementptr inbounds i32, ptr %order, i64 %position
  %length = load i32, ptr %place, align 4
  %next = add nuw i64 %position, 1
  %longer = icmp ugt i32 %length, %limit
  br i1 %longer, label %step, label %mask
mask:
  store i32 %length, ptr %prefix, align 8
  %length_wide = zext i32 %length to i64
  %whole = lshr i64 %length_wide, 3
  %partial = icmp ult i64 %whole, %bytes
  br i1 %partial, label %cut, label %search
cut:
  %edge = getelementptr inbounds i8, ptr %address, i64 %whole
  %old = load i8, ptr %edge, align 1
  %rest = sub i64 %bytes, %whole
  call void @llvm.memset.p0.i64(ptr %edge, i8 0, i64 %rest, i1 false)
  %length_byte = trunc i32 %length to i8
  %kept_bits = and i8 %length_byte, 7
  %dropped = lshr i8 -1, %kept_bits
  %keeping = xor i8 %dropped, -1
  %kept = and i8 %old, %keeping
  store i8 %kept, ptr %edge, align 1
  br label %search
search:
  %tag = call i64 @iov_tag(ptr %table, ptr %prefix, i64 %size)
  %number = call i64 @iov_find(ptr %table, ptr %prefix, i64 %size, i64 %tag)
  %absent = icmp eq i64 %number, 0
  br i1 %absent, label %step, label %done
done:
  %entry = call ptr @iov_entry(ptr %table, i64 %number)
  %value = call ptr @iov_value(ptr %table, ptr %entry)
  ret ptr %value
}

define linkonce_odr ptr @iov_lookup(ptr %table, ptr %key) nounwind {
  %kind = call i64 @iov_get(ptr %table, i64 $kind)
  switch i64 %kind, label %hash [ i64 $lru, label %lru i64 $lpm, label %lpm i64 $array, label %array ]
hash:
  %in_hash = tail call ptr @iov_lookup_hash(ptr %table, ptr %key)
  ret ptr %in_hash
lru:
  %in_lru = tail call ptr @iov_lookup_lru(ptr %table, ptr %key)
  ret ptr %in_lru
lpm:
  %in_lpm = tail call ptr @iov_lookup_lpm(ptr %table, ptr %key)
  ret ptr %in_lpm
array:
  %in_array = tail call ptr @iov_lookup_array(ptr %table, ptr %key)
  ret ptr %in_array
}
"""

_CHANGE = """
; ---- update and delete -----------------------------------------------------------------------------------------------

; unlinks an entry that is present, and frees it
define internal void @iov_remove(ptr %table, i64 %number) nounwind {
start:
  %entry = call ptr @iov_entry(ptr %table, i64 %number)
  %tag = call i64 @iov_link(ptr %entry, i64 $tag)
  %bucket = call ptr @iov_bucket(ptr %table, i64 %tag)
  br label %step
step:
  %link = phi ptr [ %bucket, %start ], [ %after, %other ]
  %linked = call i64 @iov_link(ptr %link, i64 0)
  %found = icmp eq i64 %linked, %number
  br i1 %found, label %unlink, label %other
other:
  %after = call ptr @iov_entry(ptr %table, i64 %linked)
  br label %step
unlink:
  %next = call i64 @iov_link(ptr %entry, i64 0)
  call void @iov_tie(ptr %link, i64 0, i64 %next)
  %kind = call i64 @iov_get(ptr %table, i64 $kind)
  switch i64 %kind, label %free [ i64 $lru, label %recency i64 $lpm, label %length ]
recency:
  call void @iov_leave(ptr %table, ptr %entry)
  br label %free
length:
  %key = getelementptr inbounds i8, ptr %entry, i64 $key
  call void @iov_prefix(ptr %table, ptr %key, i32 -1)
  br label %free
free:
  %sentinel = call ptr @iov_part(ptr %table, i64 $entries)
  %first_free = call i64 @iov_link(ptr %sentinel, i64 0)
  call void @iov_tie(ptr %entry, i64 0, i64 %first_free)
  call void @iov_tie(ptr %entry, i64 $tag, i64 0)
  call void @iov_tie(ptr %sentinel, i64 0, i64 %number)
  %count = call i64 @iov_get(ptr %table, i64 $count)
  %fewer = sub i64 %count, 1
  call void @iov_set(ptr %table, i64 $count, i64 %fewer)
  ret void
}

; a free entry: of the free list, or one never used; the caller knows that there is one
define internal i64 @iov_take(ptr %table) nounwind {
  %sentinel = call ptr @iov_part(ptr %table, i64 $entries)
  %number = call i64 @iov_link(ptr %sentinel, i64 0)
  %none = icmp eq i64 %number, 0
  br i1 %none, label %fresh, label %again
again:
  %entry = call ptr @iov_entry(ptr %table, i64 %number)
  %next = call i64 @iov_link(ptr %entry, i64 0)
  call void @iov_tie(ptr %sentinel, i64 0, i64 %next)
  ret i64 %number
fresh:
  %used = call i64 @iov_get(ptr %table, i64 $used)
  %more = add i64 %used, 1
  call void @iov_set(ptr %table, i64 $used, i64 %more)
  ret i64 %more
}

; value and key may lie in the entry that is evicted for them: copies are moves, the key's first
define internal void @iov_insert(ptr %table, ptr %key, i64 %size, i64 %tag, ptr %value) nounwind {
  %number = call i64 @iov_take(ptr %table)
  %entry = call ptr @iov_entry(ptr %table, i64 %number)
  %its_key = getelementptr inbounds i8, ptr %entry, i64 $key
  call void @llvm.memmove.p0.p0.i64(ptr %its_key, ptr %key, i64 %size, i1 false)
  %its_value = call ptr @iov_value(ptr %table, ptr %entry)
  %value_size = call i64 @iov_get(ptr %table, i64 $value_size)
  call void @llvm.memmove.p0.p0.i64(ptr %its_value, ptr %value, i64 %value_size, i1 false)
  %bucket = call ptr @iov_bucket(ptr %table, i64 %tag)
  %next = call i64 @iov_link(ptr %bucket, i64 0)
  call void @iov_tie(ptr %entry, i64 0, i64 %next)
  call void @iov_tie(ptr %entry, i64 $tag, i64 %tag)
  call void @iov_tie(ptr %bucket, i64 0, i64 %number)
  %count = call i64 @iov_get(ptr %table, i64 $count)
  %more = add i64 %count, 1
  call void @iov_set(ptr %table, i64 $count, i64 %more)
  %kind = call i64 @iov_get(ptr %table, i64 $kind)
  switch i64 %kind, label %done [ i64 $lru, label %recency i64 $lpm, label %length ]
recency:
  call void @iov_newest(ptr %table, ptr %entry, i64 %number)
  ret void
length:
  call void @iov_prefix(ptr %table, ptr %its_key, i32 1)
  ret void
done:
  ret void
}

define linkonce_odr i64 @iov_update(ptr %table, ptr %key, ptr %value, i64 %mode) nounwind {
start:
  %kind = call i64 @iov_get(ptr %table, i64 $kind)
  %size = call i64 @iov_get(ptr %table, i64 $key_size)
  %only_new = icmp eq i64 %mode, 1
  %only_present = icmp eq i64 %mode, 2
  switch i64 %kind, label %search [ i64 $lpm, label %prefix i64 $array, label %array ]
array:
  %slot = call ptr @iov_lookup_array(ptr %table, ptr %key)
  %beyond = icmp eq ptr %slot, null
  %array_refuses = or i1 %beyond, %only_new
  br i1 %array_refuses, label %refused, label %copy
prefix:
  %length = load i32, ptr %key, align 1
  %bytes = sub i64 %size, 4
  %bits = shl i64 %bytes, 3
  %length_wide = zext i32 %length to i64
  %too_long = icmp ugt i64 %length_wide, %bits
  br i1 %too_long, label %refused, label %search
search:
  %tag = call i64 @iov_tag(ptr %table, ptr %key, i64 %size)
  %number = call i64 @iov_find(ptr %table, ptr %key, i64 %size, i64 %tag)
  %is_absent = icmp eq i64 %number, 0
  br i1 %is_absent, label %absent, label %present
present:
  %entry = call ptr @iov_entry(ptr %table, i64 %number)
  %its_value = call ptr @iov_value(ptr %table, ptr %entry)
  br i1 %only_new, label %refused, label %rewrite
rewrite:
  %is_lru = icmp eq i64 %kind, $lru
  br i1 %is_lru, label %renew, label %copy
renew:
  call void @iov_renew(ptr %table, ptr %entry, i64 %number)
  br label %copy
copy:
  %target = phi ptr [ %slot, %array ], [ %its_value, %rewrite ], [ %its_value, %renew ]
  %value_size = call i64 @iov_get(ptr %table, i64 $value_size)
  call void @llvm.memmove.p0.p0.i64(ptr %target, ptr %value, i64 %value_size, i1 false)
  ret i64 0
absent:
  br i1 %only_present, label %refused, label %room
room:
  %count = call i64 @iov_get(ptr %table, i64 $count)
  %capacity = call i64 @iov_get(ptr %table, i64 $capacity)
  %fits = icmp ult i64 %count, %capacity
  br i1 %fits, label %insert, label %full
full:
  %sentinel = call ptr @iov_part(ptr %table, i64 $entries)
  %oldest = call i64 @iov_link(ptr %sentinel, i64 $newer)
  %none_evictable = icmp eq i64 %oldest, 0
  br i1 %none_evictable, label %refused, label %evict
evict:
  call void @iov_remove(ptr %table, i64 %oldest)
  br label %insert
insert:
  call void @iov_insert(ptr %table, ptr %key, i64 %size, i64 %tag, ptr %value)
  ret i64 0
refused:
  ret i64 1
}

define linkonce_odr i64 @iov_delete(ptr %table, ptr %key) nounwind {
  %kind = call i64 @iov_get(ptr %table, i64 $kind)
  %array = icmp eq i64 %kind, $array
  br i1 %array, label %none, label %search
search:
  %size = call i64 @iov_get(ptr %table, i64 $key_size)
  %tag = call i64 @iov_tag(ptr %table, ptr %key, i64 %size)
  %number = call i64 @iov_find(ptr %table, ptr %key, i64 %size, i64 %tag)
  %absent = icmp eq i64 %number, 0
  br i1 %absent, label %none, label %present
present:
  call void @iov_remove(ptr %table, i64 %number)
  ret i64 1
none:
  ret i64 0
}

; what was inserted or deleted since the cursor began may or may not be seen; nothing is seen twice but a key that was
; deleted and inserted again
define linkonce_odr ptr @iov_next(ptr %table, ptr %cursor) nounwind {
start:
  %position = load i64, ptr %cursor, align 8
  %kind = call i64 @iov_get(ptr %table, i64 $kind)
  %is_array = icmp eq i64 %kind, $array
  br i1 %is_array, label %array, label %entries
array:
  %capacity = call i64 @iov_get(ptr %table, i64 $capacity)
  %within = icmp ult i64 %position, %capacity
  br i1 %within, label %slot, label %end
slot:
  %value = call ptr @iov_entry(ptr %table, i64 %position)
  %following = add i64 %position, 1
  store i64 %following, ptr %cursor, align 8
  ret ptr %value
entries:
  %used = call i64 @iov_get(ptr %table, i64 $used)
  br label %step
step:
  %before = phi i64 [ %position, %entries ], [ %number, %look ]
  %more = icmp ult i64 %before, %used
  br i1 %more, label %look, label %end
look:
  %number = add i64 %before, 1
  %entry = call ptr @iov_entry(ptr %table, i64 %number)
  %tag = call i64 @iov_link(ptr %entry, i64 $tag)
  %free = icmp eq i64 %tag, 0
  br i1 %free, label %step, label %found
found:
  store i64 %number, ptr %cursor, align 8
  ret ptr %entry
end:
  ret ptr null
}
"""

#: Append this to a module's text.  It declares nothing, and its every name begins with `iov_`.
RUNTIME_IR = Template(PARTS + _LOOKUP + _CHANGE).substitute(
    HEADER, **{name: KINDS[name] for name in ("lru", "lpm", "array")},
    tag=TAG, older=OLDER, newer=NEWER, key=KEY, longest_prefix=LONGEST_PREFIX)
