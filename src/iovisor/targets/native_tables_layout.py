"""How a native table lies in memory, and the LLVM IR of its parts: words, keys, entries, recency, lengths.

A table is one block of memory that never moves and that nothing outside points into, except views and JIT-compiled
code.  Every place in it is an offset from its start, and all zeroes behind the header is a valid empty table, so
Python makes one by writing the header and no loop runs over the entries:

    offset   word           meaning                                                     changes
         0   kind           0 hash, 1 lru, 2 lpm, 3 array or counter                    never
         8   key_size       bytes; of an lpm, 4 for the length and then the address     never
        16   value_offset   from an entry to its value, a multiple of 8; 0 in an array  never
        24   stride         from an entry to the next, a multiple of 8                  never
        32   mask           buckets - 1; buckets are a power of two                     never
        40   seed           of the hash of keys, secret: peers choose the keys          never
        48   entries        offset of entry 0                                           never
        56   buckets        offset of u32[mask + 1]: the first entry of each chain      never
        64   capacity       entries it may hold                                         never
        72   value_size     bytes                                                       never
        80   counts         lpm: offset of u32[bits + 1], the prefixes of each length   never
        88   order          lpm: offset of u32[bits + 2], lengths present, long first   never
        96   lengths        lpm: how many of `order` are valid                          with the first, last of a length
       104   count          entries present                                             insert, delete
       112   used           the highest entry ever used                                 insert
       120                  nothing
       128   (lpm: counts, order) buckets, entries

    an entry (of an array: the value alone)
         0   u32 next       in its chain, or in the free list
         4   u32 tag        31 bits of the key's hash, then a one; 0 in a free entry
         8   u32 older      lru only
        12   u32 newer      lru only
        16   key            then zeroes to a multiple of 8
             value          then zeroes to a multiple of 8

Entries are numbered from 1, and 0 ends a chain.  The place of entry 0 is a sentinel: its `next` heads the free list,
its `newer` is the least recently used entry, its `older` the most recently used.  So the recency list is circular and
has no ends to treat apart.  A bucket and an entry both begin with the number of the next, so that a pointer to either
is the link a deletion rewrites.

Invariants: an entry's value never moves while its key is present; `count` chained entries plus the free list are
exactly the entries 1 … `used`; the chains of an lru hold the same entries as its recency list; a tag alone names the
bucket, so that eviction never hashes.  One thread at a time: on this target a table has one CPU.

Rejected: open addressing (tombstones degrade under the churn of a flow table, and moving entries breaks views); a
free list made at the start (it would touch every page of a table that is mostly empty); the whole hash in an entry (31
bits spare nearly all comparisons of keys, and halve the header of an entry).

Words are read in the machine's order: the runtime is for little-endian machines, as are all our layouts.
"""
from __future__ import annotations

HEADER = {name: 8 * index for index, name in enumerate((
    "kind", "key_size", "value_offset", "stride", "mask", "seed", "entries", "buckets",
    "capacity", "value_size", "counts", "order", "lengths", "count", "used"))}
HEADER_SIZE = 128
KINDS = {"hash": 0, "lru": 1, "lpm": 2, "array": 3, "counter": 3}
TAG, OLDER, NEWER, KEY = 4, 8, 12, 16       # in an entry
LONGEST_PREFIX = 20                         # bytes of an lpm's key

_WORDS = """
; ---- words of the header, links of an entry --------------------------------------------------------------------------

define internal i64 @iov_get(ptr %table, i64 %offset) alwaysinline nounwind {
  %place = getelementptr inbounds i8, ptr %table, i64 %offset
  %word = load i64, ptr %place, align 8
  ret i64 %word
}

define internal void @iov_set(ptr %table, i64 %offset, i64 %word) alwaysinline nounwind {
  %place = getelementptr inbounds i8, ptr %table, i64 %offset
  store i64 %word, ptr %place, align 8
  ret void
}

define internal ptr @iov_part(ptr %table, i64 %offset) alwaysinline nounwind {
  %distance = call i64 @iov_get(ptr %table, i64 %offset)
  %part = getelementptr inbounds i8, ptr %table, i64 %distance
  ret ptr %part
}

define internal i64 @iov_link(ptr %entry, i64 %offset) alwaysinline nounwind {
  %place = getelementptr inbounds i8, ptr %entry, i64 %offset
  %short = load i32, ptr %place, align 4
  %number = zext i32 %short to i64
  ret i64 %number
}

define internal void @iov_tie(ptr %entry, i64 %offset, i64 %number) alwaysinline nounwind {
  %place = getelementptr inbounds i8, ptr %entry, i64 %offset
  %short = trunc i64 %number to i32
  store i32 %short, ptr %place, align 4
  ret void
}

define internal ptr @iov_entry(ptr %table, i64 %number) alwaysinline nounwind {
  %first = call ptr @iov_part(ptr %table, i64 $entries)
  %stride = call i64 @iov_get(ptr %table, i64 $stride)
  %distance = mul nuw nsw i64 %number, %stride
  %entry = getelementptr inbounds i8, ptr %first, i64 %distance
  ret ptr %entry
}

define internal ptr @iov_value(ptr %table, ptr %entry) alwaysinline nounwind {
  %distance = call i64 @iov_get(ptr %table, i64 $value_offset)
  %value = getelementptr inbounds i8, ptr %entry, i64 %distance
  ret ptr %value
}

define internal ptr @iov_bucket(ptr %table, i64 %tag) alwaysinline nounwind {
  %buckets = call ptr @iov_part(ptr %table, i64 $buckets)
  %mask = call i64 @iov_get(ptr %table, i64 $mask)
  %hash = lshr i64 %tag, 1
  %index = and i64 %hash, %mask
  %bucket = getelementptr inbounds i32, ptr %buckets, i64 %index
  ret ptr %bucket
}
"""

_KEYS = """
; ---- keys: a hash by folded multiplication, and equality; the last word of a long key overlaps the one before --------

define internal i64 @iov_mix(i64 %state, i64 %word) alwaysinline nounwind {
  %either = xor i64 %state, %word
  %wide = zext i64 %either to i128
  %product = mul nuw i128 %wide, 11562461410679940143
  %low = trunc i128 %product to i64
  %upper = lshr i128 %product, 64
  %high = trunc i128 %upper to i64
  %mixed = xor i64 %low, %high
  ret i64 %mixed
}

; 1 to 7 bytes as a word: no two keys of one size give the same
define internal i64 @iov_short(ptr %bytes, i64 %size) nounwind {
  %half = icmp uge i64 %size, 4
  br i1 %half, label %halves, label %few
halves:
  %low_half = load i32, ptr %bytes, align 1
  %behind = getelementptr i8, ptr %bytes, i64 %size
  %second = getelementptr i8, ptr %behind, i64 -4
  %high_half = load i32, ptr %second, align 1
  %low = zext i32 %low_half to i64
  %high = zext i32 %high_half to i64
  %raised = shl i64 %high, 32
  %both = or i64 %low, %raised
  ret i64 %both
few:
  %middle = lshr i64 %size, 1
  %end = sub i64 %size, 1
  %middle_place = getelementptr i8, ptr %bytes, i64 %middle
  %end_place = getelementptr i8, ptr %bytes, i64 %end
  %byte_0 = load i8, ptr %bytes, align 1
  %byte_1 = load i8, ptr %middle_place, align 1
  %byte_2 = load i8, ptr %end_place, align 1
  %word_0 = zext i8 %byte_0 to i64
  %word_1 = zext i8 %byte_1 to i64
  %word_2 = zext i8 %byte_2 to i64
  %raised_1 = shl i64 %word_1, 8
  %raised_2 = shl i64 %word_2, 16
  %two = or i64 %word_0, %raised_1
  %three = or i64 %two, %raised_2
  ret i64 %three
}

define internal i64 @iov_tag(ptr %table, ptr %key, i64 %size) nounwind {
start:
  %seed = call i64 @iov_get(ptr %table, i64 $seed)
  %long = icmp uge i64 %size, 8
  %last = sub i64 %size, 8
  br i1 %long, label %step, label %small
small:
  %only = call i64 @iov_short(ptr %key, i64 %size)
  br label %finish
step:
  %position = phi i64 [ 0, %start ], [ %next, %word ]
  %state = phi i64 [ %seed, %start ], [ %mixed, %word ]
  %more = icmp ult i64 %position, %last
  br i1 %more, label %word, label %tail
word:
  %place = getelementptr i8, ptr %key, i64 %position
  %bytes = load i64, ptr %place, align 1
  %mixed = call i64 @iov_mix(i64 %state, i64 %bytes)
  %next = add nuw i64 %position, 8
  br label %step
tail:
  %last_place = getelementptr i8, ptr %key, i64 %last
  %last_bytes = load i64, ptr %last_place, align 1
  br label %finish
finish:
  %before = phi i64 [ %seed, %small ], [ %state, %tail ]
  %final = phi i64 [ %only, %small ], [ %last_bytes, %tail ]
  %almost = call i64 @iov_mix(i64 %before, i64 %final)
  %hash = call i64 @iov_mix(i64 %almost, i64 16646288086500911323)
  %upper = lshr i64 %hash, 32
  %tag = or i64 %upper, 1
  ret i64 %tag
}

define internal i1 @iov_equal(ptr %one, ptr %other, i64 %size) nounwind {
start:
  %long = icmp uge i64 %size, 8
  %last = sub i64 %size, 8
  br i1 %long, label %step, label %small
small:
  %one_short = call i64 @iov_short(ptr %one, i64 %size)
  %other_short = call i64 @iov_short(ptr %other, i64 %size)
  %same_short = icmp eq i64 %one_short, %other_short
  ret i1 %same_short
step:
  %position = phi i64 [ 0, %start ], [ %next, %word ]
  %more = icmp ult i64 %position, %last
  %here = select i1 %more, i64 %position, i64 %last
  %one_place = getelementptr i8, ptr %one, i64 %here
  %other_place = getelementptr i8, ptr %other, i64 %here
  %one_word = load i64, ptr %one_place, align 1
  %other_word = load i64, ptr %other_place, align 1
  %same = icmp eq i64 %one_word, %other_word
  %onward = and i1 %same, %more
  br i1 %onward, label %word, label %done
word:
  %next = add nuw i64 %position, 8
  br label %step
done:
  ret i1 %same
}

; the number of the entry with this key, or 0
define internal i64 @iov_find(ptr %table, ptr %key, i64 %size, i64 %tag) nounwind {
start:
  %bucket = call ptr @iov_bucket(ptr %table, i64 %tag)
  br label %step
step:
  %link = phi ptr [ %bucket, %start ], [ %entry, %compare ], [ %entry, %bytes ]
  %number = call i64 @iov_link(ptr %link, i64 0)
  %end = icmp eq i64 %number, 0
  br i1 %end, label %done, label %compare
compare:
  %entry = call ptr @iov_entry(ptr %table, i64 %number)
  %its_tag = call i64 @iov_link(ptr %entry, i64 $tag)
  %likely = icmp eq i64 %its_tag, %tag
  br i1 %likely, label %bytes, label %step
bytes:
  %its_key = getelementptr inbounds i8, ptr %entry, i64 $key
  %same = call i1 @iov_equal(ptr %its_key, ptr %key, i64 %size)
  br i1 %same, label %done, label %step
done:
  ret i64 %number
}
"""

_ORDER = """
; ---- the recency list of an lru, the lengths of an lpm ---------------------------------------------------------------

define internal void @iov_leave(ptr %table, ptr %entry) nounwind {
  %older = call i64 @iov_link(ptr %entry, i64 $older)
  %newer = call i64 @iov_link(ptr %entry, i64 $newer)
  %older_entry = call ptr @iov_entry(ptr %table, i64 %older)
  %newer_entry = call ptr @iov_entry(ptr %table, i64 %newer)
  call void @iov_tie(ptr %older_entry, i64 $newer, i64 %newer)
  call void @iov_tie(ptr %newer_entry, i64 $older, i64 %older)
  ret void
}

define internal void @iov_newest(ptr %table, ptr %entry, i64 %number) nounwind {
  %sentinel = call ptr @iov_part(ptr %table, i64 $entries)
  %newest = call i64 @iov_link(ptr %sentinel, i64 $older)
  %newest_entry = call ptr @iov_entry(ptr %table, i64 %newest)
  call void @iov_tie(ptr %entry, i64 $older, i64 %newest)
  call void @iov_tie(ptr %entry, i64 $newer, i64 0)
  call void @iov_tie(ptr %newest_entry, i64 $newer, i64 %number)
  call void @iov_tie(ptr %sentinel, i64 $older, i64 %number)
  ret void
}

define internal void @iov_renew(ptr %table, ptr %entry, i64 %number) nounwind {
  %newer = call i64 @iov_link(ptr %entry, i64 $newer)
  %newest = icmp eq i64 %newer, 0
  br i1 %newest, label %done, label %move
move:
  call void @iov_leave(ptr %table, ptr %entry)
  call void @iov_newest(ptr %table, ptr %entry, i64 %number)
  br label %done
done:
  ret void
}

; one prefix more, or less, of the length this key begins with
define internal void @iov_prefix(ptr %table, ptr %key, i32 %change) nounwind {
start:
  %counts = call ptr @iov_part(ptr %table, i64 $counts)
  %short = load i32, ptr %key, align 1
  %this = zext i32 %short to i64
  %count_place = getelementptr inbounds i32, ptr %counts, i64 %this
  %before = load i32, ptr %count_place, align 4
  %after = add i32 %before, %change
  store i32 %after, ptr %count_place, align 4
  %was = icmp ne i32 %before, 0
  %is = icmp ne i32 %after, 0
  %same = icmp eq i1 %was, %is
  br i1 %same, label %done, label %renew
renew:
  %order = call ptr @iov_part(ptr %table, i64 $order)
  %size = call i64 @iov_get(ptr %table, i64 $key_size)
  %bytes = sub i64 %size, 4
  %bits = shl i64 %bytes, 3
  br label %step
step:
  %length = phi i64 [ %bits, %renew ], [ %shorter, %step ]
  %kept = phi i64 [ 0, %renew ], [ %kept_next, %step ]
  %slot = getelementptr inbounds i32, ptr %counts, i64 %length
  %prefixes = load i32, ptr %slot, align 4
  %any = icmp ne i32 %prefixes, 0
  %one = zext i1 %any to i64
  %length_short = trunc i64 %length to i32
  %order_place = getelementptr inbounds i32, ptr %order, i64 %kept
  store i32 %length_short, ptr %order_place, align 4
  %kept_next = add i64 %kept, %one
  %shorter = sub i64 %length, 1
  %last = icmp eq i64 %length, 0
  br i1 %last, label %store, label %step
store:
  call void @iov_set(ptr %table, i64 $lengths, i64 %kept_next)
  br label %done
done:
  ret void
}
"""

#: What the runtime is built on, with $names in place of the numbers above.
PARTS = _WORDS + _KEYS + _ORDER
