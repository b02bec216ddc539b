/* What workers write into each other's rings. Bodies of ring frames, 8-byte aligned, in the machine's byte order: they
 * never leave the machine, and all workers run the same build (FRAMES_VERSION is checked all the same).
 *
 *   message frame (data ring)                     interest frame (control ring)
 *    0  u8   kind = FRAME_MESSAGE                   0  u8   kind = FRAME_INTEREST or FRAME_SYNCED
 *    1  u8   version                                1  u8   version
 *    2  u8   flags, FRAME_*                         2  u16  flags, INTEREST_*
 *    3  u8   hops: workers that passed it on        4  u32  account
 *    4  u32  account                                8  u32  subject length
 *    8  u32  subject length                        12  u32  queue length, 0 for plain subscriptions
 *   12  u32  reply length                          16  u32  count: members that the sender has now
 *   16  i32  header block length, -1 for none      20  u32  reserved
 *   20  u32  header block and payload length       24  subject, queue name
 *   24  u32  length of the queue names
 *   28  u32  tail length
 *   32  queue names, each u32 length and bytes, before them likewise the shown subject if FRAME_SHOWN; subject; tail as it goes to clients ("[reply ][#hdr ]#total\r\n…\r\n")
 */
#ifndef MIDGE_WORKERS_FRAMES_H
#define MIDGE_WORKERS_FRAMES_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

enum { FRAMES_VERSION = 2 };
enum { FRAME_MESSAGE = 1, FRAME_INTEREST = 2, FRAME_SYNCED = 3 };
enum {
    FRAME_PLAIN = 1, /* the receiver's plain subscriptions get it, not only the named queues */
    FRAME_SHOWN = 2  /* subscribers see another subject than the one that it is routed by */
};
enum { INTEREST_STICKY = 1 /* keep messages for it while the sender is dead */ };

typedef struct {
    uint8_t kind, version, flags, hops;
    uint32_t account, subject_length, reply_length;
    int32_t header_size;
    uint32_t size, queues_length, tail_length;
} message_frame_t;

typedef struct {
    uint8_t kind, version;
    uint16_t flags;
    uint32_t account, subject_length, queue_length, count, reserved;
} interest_frame_t;

static_assert(sizeof(message_frame_t) == 32, "as drawn above");
static_assert(offsetof(message_frame_t, header_size) == 16, "as drawn above");
static_assert(offsetof(message_frame_t, tail_length) == 28, "as drawn above");
static_assert(sizeof(interest_frame_t) == 24, "as drawn above");
static_assert(offsetof(interest_frame_t, count) == 16, "as drawn above");

#endif
