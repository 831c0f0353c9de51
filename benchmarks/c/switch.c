/* The ingress of iovisor.functions.switch, by hand. */
#include "nf.h"

enum {
    RESERVED_ADDRESS = 16, SAME_PORT, STATION_FIXED, STORM, PORT_CLOSED, VLAN_INGRESS_FILTER, VLAN_UNTAGGED,
    VLAN_INVALID, VLAN_SERVICE_TAG
};
enum { CLOSED, ACCESS, TRUNK };
#define SECOND 1000000000ULL
#define BRIDGE_GROUP 0x0180c2000000ULL

struct address { u64 mac; u64 vid; };
struct station { u64 seen; u8 port, fixed; u8 padding[6]; };
struct load { u32 learned; };
struct line { u8 mode; u16 pvid; u32 quota; };
struct storm { u64 credit, since; };

extern const struct { u64 flags, ageing; u32 stations, quota, storm; u8 vlans; } config;
extern char stations, loads, lines, members, storms, received, unlearned;

INLINE u64 is_group(u64 mac) {
    return mac >> 40 & 1;
}

INLINE int carries(u32 port, u32 vid, u32 *reason) {
    u32 word = port << 6 | vid >> 6;
    u64 *bits = map_lookup(&members, &word);
    *reason = bits ? VLAN_INGRESS_FILTER : ABSENT;
    return bits && *bits >> (vid & 63) & 1;
}

/* 0: there is; 1: there is none; above: reject. */
INLINE int has_room(u32 port, struct load **load) {
    struct line *line = map_lookup(&lines, &port);
    u32 quota;
    if (!line)
        return ABSENT;
    quota = line->quota ?: config.quota;
    *load = map_lookup(&loads, &port);
    if (!*load)
        return ABSENT;
    return (*load)->learned >= quota;
}

/* 0, or the reason to drop the frame. */
INLINE u32 learn(struct address *source, u32 port, u64 moment) {
    struct station *known = map_lookup(&stations, source);
    struct load *load;
    int full;
    if (likely(known)) {
        if (likely(known->port == port)) {
            if (known->seen != moment)
                known->seen = moment;
            return 0;
        }
        if (known->fixed)
            return STATION_FIXED;
        u32 former = known->port;
        struct load *left = map_lookup(&loads, &former);
        if (!left)
            return ABSENT;
        if (left->learned)
            left->learned--;
        full = has_room(port, &load);
        if (full > 1)
            return full;
        if (!full) {
            __sync_fetch_and_add(&load->learned, 1);
            known->port = port;
            known->seen = moment;
            return 0;
        }
        map_delete(&stations, source);
        count(&unlearned, port, 0);
        return 0;
    }
    full = has_room(port, &load);
    if (full > 1)
        return full;
    if (!full) {
        struct station fresh = {.seen = moment, .port = port};
        if (!map_update(&stations, source, &fresh, 1)) {
            __sync_fetch_and_add(&load->learned, 1);
            return 0;
        }
    }
    count(&unlearned, port, 0);
    return 0;
}

INLINE u32 flood(u32 port, u64 moment) {
    struct storm *bucket;
    s64 earned, credit, most = SECOND * config.storm;
    if (!config.storm)
        return flooded;
    bucket = map_lookup(&storms, &port);
    if (!bucket)
        return drop(ABSENT);
    earned = moment - bucket->since;
    if (earned < 0)
        earned = 0;
    if (earned > (s64)SECOND)
        earned = SECOND;
    credit = bucket->credit + earned * config.storm;
    if (credit > most)
        credit = most;
    bucket->since = moment;
    if (credit < (s64)SECOND) {
        bucket->credit = credit;
        return drop(STORM);
    }
    bucket->credit = credit - SECOND;
    return flooded;
}

/* Where a frame of a VLAN goes, by its addresses. */
INLINE u32 relay(u64 destination, u64 source, u32 vid, u32 port) {
    struct address key = {.vid = vid};
    struct station *station;
    u64 moment = now();
    if (!is_group(source)) {
        u32 reason;
        key.mac = source;
        reason = learn(&key, port, moment);
        if (unlikely(reason))
            return drop(reason);
    }
    if (is_group(destination))
        return flood(port, moment);
    key.mac = destination;
    station = map_lookup(&stations, &key);
    if (!station || ((s64)(moment - station->seen) > (s64)config.ageing && !station->fixed))
        return flood(port, moment);
    if (station->port == port)
        return drop(SAME_PORT);
    return forward(station->port);
}

INLINE int is_tag(u16 raw) {
    return raw == SWAP16(TPID_CUSTOMER) || raw == SWAP16(TPID_SERVICE);
}

/* The VLAN of a frame in *vid; 1 if its tag must be rewritten, 0 if it is right, negative: the reason to drop it. */
INLINE int classify(u32 port, u32 tagged, u32 service, u32 tci, u16 inner, u32 *vid) {
    struct line *line = map_lookup(&lines, &port);
    u32 reason, mode;
    *vid = tagged ? tci & 0xfff : 0;
    if (!line)
        return -ABSENT;
    mode = line->mode;
    if (mode == CLOSED)
        return -PORT_CLOSED;
    if (service)
        return -VLAN_SERVICE_TAG;
    if (*vid == 0xfff)
        return -VLAN_INVALID;
    if (mode == ACCESS && (*vid || is_tag(inner)))
        return -VLAN_INGRESS_FILTER;
    if (*vid)
        return carries(port, *vid, &reason) ? 0 : -reason;
    *vid = line->pvid;
    return *vid ? 1 : -VLAN_UNTAGGED;
}

#ifdef TC
INLINE u32 decide(struct context *ctx) {
    u8 *eth, *end;
    u64 destination, source;
    u32 port = PORT(ctx), vid = 0;
    pull(ctx, 14);
    count(&received, port, ctx->len);
    eth = (u8 *)(u64)ctx->data;
    end = (u8 *)(u64)ctx->data_end;
    if (eth + 14 > end)
        return drop(TRUNCATED);
    destination = load48(eth);
    source = load48(eth + 6);
    if (destination >> 4 == BRIDGE_GROUP >> 4)
        return drop(RESERVED_ADDRESS);
    if (config.vlans) {
        u32 tagged = ctx->vlan_present, tci = ctx->vlan_tci;
        u16 proto = ctx->vlan_proto;
        int change = classify(port, tagged, tagged && proto == SWAP16(TPID_SERVICE), tci, *(u16 *)(eth + 12), &vid);
        if (change < 0)
            return drop(-change);
        if (change) {
            if (tagged)
                vlan_pop(ctx);
            if (vlan_push(ctx, SWAP16(TPID_CUSTOMER), (tagged ? tci & 0xf000 : 0) | vid))
                return drop(RESIZE);
        }
    }
    return relay(destination, source, vid, port);
}

__attribute__((section("tc"), used)) int ingress(struct context *ctx) {
    u64 flags = config.flags;
    settle(ctx, flags);
    return finish(ctx, flags, decide(ctx));
}
#endif

#ifdef XDP
INLINE u32 decide(struct context *ctx, u32 port) {
    u8 *eth = (u8 *)(u64)ctx->data, *end = (u8 *)(u64)ctx->data_end;
    u32 vid = 0, tag = tag_size(eth, end);
    u64 destination, source;
    count(&received, port, end - eth - tag);
    if (eth + 14 > end)
        return drop(TRUNCATED);
    destination = load48(eth);
    source = load48(eth + 6);
    if (destination >> 4 == BRIDGE_GROUP >> 4)
        return drop(RESERVED_ADDRESS);
    if (config.vlans) {
        u16 tci = 0, proto = 0, inner = *(u16 *)(eth + 12);
        int change;
        if (tag) {
            if (eth + 18 > end)
                return drop(TRUNCATED);
            proto = inner;
            tci = SWAP16(*(u16 *)(eth + 14));
            inner = *(u16 *)(eth + 16);
        }
        change = classify(port, tag, proto == SWAP16(TPID_SERVICE), tci, inner, &vid);
        if (change < 0)
            return drop(-change);
        if (change && tag)
            *(u16 *)(eth + 14) = SWAP16((tci & 0xf000) | vid);
        else if (change) {
            if (adjust_head(ctx, -4))
                return drop(RESIZE);
            eth = (u8 *)(u64)ctx->data;
            end = (u8 *)(u64)ctx->data_end;
            if (eth + 18 > end)
                return drop(TRUNCATED);
            __builtin_memmove(eth, eth + 4, 8);
            __builtin_memmove(eth + 8, eth + 12, 4);
            *(u16 *)(eth + 12) = SWAP16(TPID_CUSTOMER);
            *(u16 *)(eth + 14) = SWAP16(vid);
        }
    }
    return relay(destination, source, vid, port);
}

__attribute__((section("xdp"), used)) int ingress(struct context *ctx) {
    struct travels *seen = travels();
    if (!seen)
        return ABORTED;
    return finish(ctx, config.flags, seen, decide(ctx, seen->port));
}
#endif
