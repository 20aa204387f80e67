/* Counts the instructions a program runs under qemu-user, all of them, SIMD and floating point, and int8 dot products: see count.sh.
 * For one thread: the counters are plain. Written against plugin interface 1 (QEMU 4.2 to 8.1), whose header Debian does not ship. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t plugin_id;
int qemu_plugin_version = 1;

size_t qemu_plugin_tb_n_insns(const void *block);
const void *qemu_plugin_tb_get_insn(const void *block, size_t number);
const void *qemu_plugin_insn_data(const void *instruction);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*translated)(plugin_id, void *));
void qemu_plugin_register_vcpu_tb_exec_inline(void *block, int add, void *counter, uint64_t by);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*done)(plugin_id, void *), void *data);

static uint64_t all, simd, dot;

static void translated(plugin_id id, void *block)
{
    uint64_t simd_here = 0, dot_here = 0;
    size_t count = qemu_plugin_tb_n_insns(block);
    for (size_t i = 0; i < count; i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), sizeof word);
        /* Top-level encoding x111: SIMD and floating point; SDOT and UDOT by vector, then by element. */
        simd_here += (word >> 25 & 7) == 7;
        dot_here += (word & 0x9fe0fc00) == 0x0e809400 || (word & 0x9fc0f400) == 0x0f80e000;
    }
    qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &all, count);
    qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &simd, simd_here);
    qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &dot, dot_here);
}

static void done(plugin_id id, void *data)
{
    fprintf(stderr, "\ncounted %llu %llu %llu\n", (unsigned long long)all, (unsigned long long)simd, (unsigned long long)dot);
}

int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments)
{
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, done, 0);
    return 0;
}
