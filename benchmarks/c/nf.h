/* What the yardsticks share: the kernel's helpers, the platform's maps, and the two hooks.
 *
 * Each program is compiled twice, with -DTC and with -DXDP. Maps are undefined symbols: benchmarks/handwritten.py makes
 * map numbers of them (BPF_PSEUDO_MAP_IDX, or _VALUE for `config` and `machine`, which are read in place), so that the
 * C and the Python of a function run on the same maps, made by the same code.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define INLINE static inline __attribute__((always_inline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define bounded(x, mask) ({ u64 hidden = (x); asm volatile("" : "+r"(hidden)); hidden & (mask); })

enum { TRUNCATED = 1, REQUIRED, ABSENT, TABLE_FULL, RESIZE, UNWIRED };
enum { DROP = 0, HOST = 1, FORWARD = 2, FLOOD = 3 };
enum { BARE = 1, FLOOD_SLOT = 256, TPID_CUSTOMER = 0x8100, TPID_SERVICE = 0x88a8 };
#define SWAP16(x) __builtin_bswap16(x)
#define drop(reason) ((u32)(reason))
#define forward(port) ((u32)FORWARD << 16 | (port))
#define flooded ((u32)FLOOD << 16)

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*map_delete)(void *map, const void *key) = (void *)3;
static u64 (*ktime_get_coarse)(void) = (void *)160;

extern char drops, next;
extern struct { s64 standing, offset; } machine;

INLINE u64 now(void) {
    return machine.offset + (machine.standing ? 0 : ktime_get_coarse());
}

INLINE void count_drop(u32 reason) {
    u32 first = 0;
    u64 *place = map_lookup(&drops, &first);
    if (place)
        ++place[bounded(reason, 255)];
}

struct count { u64 packets, bytes; };

INLINE void count(void *counter, u32 index, u64 bytes) {
    struct count *place = map_lookup(counter, &index);
    if (place) {
        place->packets++;
        place->bytes += bytes;
    }
}

INLINE u64 load48(const u8 *at) {
    return (u64)__builtin_bswap32(*(u32 *)at) << 16 | SWAP16(*(u16 *)(at + 4));
}

#ifdef TC
struct context {
    u32 len, pkt_type, mark, queue, protocol, vlan_present, vlan_tci, vlan_proto, priority, ingress_ifindex, ifindex,
        tc_index, cb[5], hash, tc_classid, data, data_end;
};
static long (*tail_call)(struct context *, void *map, u32 index) = (void *)12;
static long (*l4_csum_replace)(struct context *, u32 offset, u64 from, u64 to, u64 flags) = (void *)11;
static long (*vlan_push)(struct context *, u16 proto, u16 tci) = (void *)18;
static long (*vlan_pop)(struct context *) = (void *)19;
static long (*load_bytes)(struct context *, u32 offset, void *to, u32 length) = (void *)26;
static long (*pull_data)(struct context *, u32 length) = (void *)39;
#define PASSED 0
#define DROPPED 2
#define PORT(ctx) ((ctx)->cb[0] & 0xffff)
#define LENGTH(ctx) ((ctx)->len)

/* BPF_PROG_TEST_RUN leaves a tag in the bytes; real packets have it beside them. */
INLINE void settle(struct context *ctx, u64 flags) {
    u32 protocol = ctx->protocol;
    if (!(flags & BARE) || ctx->vlan_present || ctx->len < 18)
        return;
    if (protocol == SWAP16(TPID_CUSTOMER) || protocol == SWAP16(TPID_SERVICE)) {
        u16 tci;
        load_bytes(ctx, 14, &tci, 2);
        vlan_pop(ctx);
        vlan_push(ctx, protocol, SWAP16(tci));
    }
}

INLINE void pull(struct context *ctx, u32 near) {
    u64 data = ctx->data, end = ctx->data_end;
    if (unlikely((void *)data + near > (void *)end) && end - data < ctx->len)
        pull_data(ctx, ctx->len < near ? ctx->len : near);
}

INLINE int finish(struct context *ctx, u64 flags, u32 verdict) {
    u32 kind = verdict >> 16, argument = verdict & 0xffff;
    if (kind == DROP)
        count_drop(argument & 0xff);
    if (flags & BARE) {
        ctx->mark = ctx->vlan_present ? (u32)SWAP16(ctx->vlan_proto) << 16 | (ctx->vlan_tci & 0xffff) : 0;
        return verdict;
    }
    switch (kind) {
    case HOST:
        return PASSED;
    case FORWARD:
        *(u16 *)&ctx->cb[0] = argument;
        tail_call(ctx, &next, argument);
        break;
    case FLOOD:
        tail_call(ctx, &next, FLOOD_SLOT);
        break;
    default:
        return DROPPED;
    }
    count_drop(UNWIRED);
    return DROPPED;
}
#endif

#ifdef XDP
struct context {
    u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};
struct travels {
    u16 port;
};
extern char travelling;
static long (*tail_call)(struct context *, void *map, u32 index) = (void *)12;
static int (*adjust_head)(struct context *, int delta) = (void *)44;
#define ABORTED 0
#define DROPPED 1
#define PASSED 2

INLINE struct travels *travels(void) {
    u32 zero = 0;
    return map_lookup(&travelling, &zero);
}

/* Pointers are subtracted in 64 bits, whatever the use of the difference. */
INLINE u64 frame_length(struct context *ctx) {
    u64 length = (u64)ctx->data_end - (u64)ctx->data;
    asm volatile("" : "+r"(length));
    return length;
}

/* Bytes of tag in front of the type: what lies behind the addresses is that much farther. */
INLINE u32 tag_size(const u8 *data, const u8 *end) {
    u16 raw;
    if (unlikely(data + 18 > end))
        return 0;
    raw = *(u16 *)(data + 12);
    return raw == SWAP16(TPID_CUSTOMER) || raw == SWAP16(TPID_SERVICE) ? 4 : 0;
}

INLINE int finish(struct context *ctx, u64 flags, struct travels *seen, u32 verdict) {
    u32 kind = verdict >> 16, argument = verdict & 0xffff;
    if (kind == DROP)
        count_drop(argument & 0xff);
    if (flags & BARE)
        return verdict;
    switch (kind) {
    case HOST:
        return PASSED;
    case FORWARD:
        if (seen)
            seen->port = argument;
        tail_call(ctx, &next, argument);
        break;
    case FLOOD:
        tail_call(ctx, &next, FLOOD_SLOT);
        break;
    default:
        return DROPPED;
    }
    count_drop(UNWIRED);
    return DROPPED;
}
#endif
