/* The mutants: identifier, slug, the rule that each breaks first of all, what it does wrong, what to do about it, and
 * where such a bug was really seen ("" where it is only plausible). The macro's name says which processors it is for.
 * Python reads this table too (conformance/q8a8_lab/mutation/native.py): write each entry as a macro's name and string
 * literals, without escapes. No include guard: table.c reads it twice. */
ANY(over_read_byte, "over-read-byte", "Q8A8-MEM-1",
    "The dot product's loop loads the first byte of the block after the last one.",
    "Ask whether there is a next block before loading from it.", "")
ANY(over_read_block, "over-read-block", "Q8A8-MEM-1",
    "The dot product over 36-byte blocks loads the next block while it computes the last one.",
    "Let the last round of a pipelined loop load nothing.", "")
ANY(over_read_vector, "over-read-vector", "Q8A8-MEM-1",
    "The odd tail of an activation vector is loaded as a whole vector and masked afterwards.",
    "Load the tail element by element, or copy it into a padded buffer.", "")
ANY(over_read_empty, "over-read-empty", "Q8A8-MEM-1",
    "The first block is loaded before the loop, in an empty row too.",
    "Return, or skip the first load, where k is 0.", "")
ANY(over_read_remainder, "over-read-remainder", "Q8A8-MEM-1",
    "Of a remainder of five, modulo eight blocks, the last two bytes of y are loaded as a word of four.",
    "Load the last bytes of a row by an overlapping load that ends with it.", "")
ANY(under_read, "under-read", "Q8A8-MEM-1",
    "A scale is loaded as the upper half of a word that begins two bytes before the block.",
    "Load the two bytes of the scale alone.", "")
ANY(over_write_byte, "over-write-byte", "Q8A8-MEM-2",
    "A zero is stored behind the last code of an activation vector.",
    "Store `size` codes.", "")
ANY(over_write_scale, "over-write-scale", "Q8A8-MEM-2",
    "The activation's scale is stored as a 32-bit word.",
    "Store two bytes: the scale is a uint16_t.", "")
ANY(over_write_vector, "over-write-vector", "Q8A8-MEM-2",
    "A block is stored as three vectors of 16 bytes, 14 bytes too many behind the last one.",
    "Store the last block's 34 bytes and no more.", "")
ANY(over_write_lanes, "over-write-lanes", "Q8A8-MEM-2",
    "All four lanes of the accumulator are stored to s before they are folded.",
    "Fold in registers, and store one float.", "")
ANY(over_write_block, "over-write-block", "Q8A8-MEM-2",
    "Blocks are dequantized in pairs: an odd count leaves a block of zeros behind the output.",
    "Give the odd last block a loop of its own.", "")
ANY(under_write, "under-write", "Q8A8-MEM-2",
    "A block's scale is stored as a word that begins two bytes before the block.",
    "Store the two bytes of the scale alone.", "")
ANY(writes_input, "writes-input", "Q8A8-MEM-3",
    "The activation quantizer scales the elements where they are.",
    "Scale in registers, or in a buffer of the kernel's own.", "")
ANY(restores_input, "restores-input", "Q8A8-MEM-3",
    "The dot product marks blocks of x that are done, and takes the marks away in the end.",
    "Keep notes somewhere else: inputs may be mapped read-only, or read by others.", "")
ANY(aligned_assert, "aligned-assert", "Q8A8-MEM-4",
    "An assertion requires blocks at a multiple of four bytes.",
    "Blocks need 2-byte alignment: drop the assertion.", "")
ANY(aligned_by_or, "aligned-by-or", "Q8A8-MEM-4",
    "Vectors of the output are addressed by setting a bit of the address, not by adding.",
    "Add offsets to addresses.", "")
ANY(aligned_words, "aligned-words", "Q8A8-MEM-4",
    "Rows of 36-byte blocks are read from the address rounded down to a multiple of four.",
    "Use the address as it is: blocks need 2-byte alignment.", "")
ANY(aligned_long, "aligned-long", "Q8A8-MEM-4",
    "From 64 blocks on, output is stored by instructions that need a multiple of 32 bytes.",
    "Use unaligned stores for long rows as well: floats need 4-byte alignment.", "")
ANY(leaves_rounding, "leaves-rounding", "Q8A8-ENV-1",
    "The rounding mode is set to truncation and not set back.",
    "Set the rounding mode back, or use instructions that name their own.", "")
ANY(leaves_rounding_early, "leaves-rounding-early", "Q8A8-ENV-1",
    "The early return for an empty row leaves the rounding mode changed.",
    "Set the rounding mode back on every way out.", "")
ANY(leaves_flush, "leaves-flush", "Q8A8-ENV-1",
    "Flush-to-zero is switched on and stays on.",
    "Leave the mode alone: nothing in a dot product is subnormal.", "")
ANY(clears_flush, "clears-flush", "Q8A8-ENV-1",
    "Flush-to-zero is switched off, though the caller had it on.",
    "Save the control register, and put back what was found.", "")
X86(leaves_traps, "x86-leaves-traps", "Q8A8-ENV-1",
    "The exception for inexact results is left unmasked.",
    "Put the exception masks back.", "")
X86(leaves_x87, "x86-leaves-precision", "Q8A8-ENV-1",
    "The x87 unit is left in single precision.",
    "Put the x87 control word back.", "")
X86(links_flush, "x86-links-flush-bits", "Q8A8-ENV-1",
    "Both flush bits are cleared in the call, and both set again where flush-to-zero was.",
    "Put MXCSR back as it was.", "")
X86(resets_x87, "x86-resets-x87", "Q8A8-ENV-1",
    "The x87 unit is reset after MMX instructions, with its control word.",
    "Use EMMS instead of FNINIT.", "")
X86(clears_with_ftz, "x86-clears-flush-together", "Q8A8-ENV-2",
    "Both flush bits are cleared in the call where flush-to-zero is set: denormals-are-zero alone stays.",
    "Clear what is set, whichever it is, or read halves by integers.", "")
ARM(leaves_fz16, "arm-leaves-fz16", "Q8A8-ENV-1",
    "FPCR.FZ16 is set, for speed, and stays set.",
    "Leave the mode alone: conversions ignore it.", "")
ANY(keeps_amax, "keeps-amax", "Q8A8-ENV-2",
    "A call's largest magnitude begins with an element of the call before.",
    "Start every call with amax = 0.", "")
ANY(remembers_rows, "remembers-rows", "Q8A8-ENV-2",
    "A dot product is remembered by the addresses of its rows, which stay when the rows change.",
    "Remember nothing by address.", "")
ANY(needs_another, "needs-another-call", "Q8A8-ENV-2",
    "Dequantization reads a table that a quantizer fills: before that it is all zeros.",
    "Fill tables before the library's first use, or compute without one.",
    "ggml: before ggml_cpu_init() its table of halves is empty, and the dot gives 0")
ANY(lazy_table, "lazy-table", "Q8A8-ENV-3",
    "The first call marks a table as filled before it has read it from a file.",
    "Read it under a lock (call_once).", "")
ANY(stale_generation, "stale-generation", "Q8A8-ENV-2",
    "Calls are counted in sixteen bits, which mark the scales of a call: after 65,536 calls old ones are taken.",
    "Compute the scales of every call, or count in 64 bits.", "")
ANY(dirty_tail, "dirty-tail", "Q8A8-ENV-2",
    "The odd tail is padded in a static vector that still holds the last call's elements.",
    "Clear the padding in every call.", "")
ANY(shared_row, "shared-row", "Q8A8-ENV-3",
    "A row is quantized in a static buffer and copied out from there.",
    "Quantize into the output, or use a buffer on the stack.", "")
ANY(shared_products, "shared-products", "Q8A8-ENV-3",
    "The blocks' products wait in a static array until they are added.",
    "Use a buffer on the stack.", "")
ANY(shared_scale, "shared-scale", "Q8A8-ENV-3",
    "A block's scale is kept in a static variable while the block is computed.",
    "Use a local variable.", "")
ANY(changes_after_many, "changes-after-many-calls", "Q8A8-ENV-2",
    "After fifty thousand calls the blocks are added from the last to the first.",
    "Let no count of calls decide anything.", "")
ANY(picked_by_clock, "picked-by-clock", "Q8A8-ENV-2",
    "The first call measures how many accumulators are fastest, and the clock decides.",
    "Choose by the processor's features, which do not change.", "")
ANY(clobbers, "clobbers-register", "Q8A8-ENV-5",
    "Assembly uses a callee-saved register that it does not name.",
    "Name every register in the list of clobbers, or save it.", "")
X86(wide_length, "x86-wide-length", "Q8A8-ENV-4",
    "The length, an int, is read from the whole register, of which the upper half is undefined.",
    "Extend it first: MOVSXD, or the register's lower half.", "")
X86(uncleared_register, "x86-uncleared-register", "Q8A8-ENV-2",
    "The sum begins in a register that nothing has set to zero.",
    "Clear accumulators, also those of a tail.", "an intrinsics' `__m128 sum;` without a value")
X86(leaves_direction, "x86-leaves-direction", "Q8A8-ENV-5",
    "A copy from the end leaves the direction flag set.",
    "Clear the flag (cld) before returning.", "")
X86(leaves_mmx, "x86-leaves-mmx", "Q8A8-ENV-5",
    "MMX instructions are not followed by emms: the caller's long double is NaN.",
    "End with emms, or use SSE registers.", "")
ANY(blocks_signals, "blocks-signals", "Q8A8-ENV-6",
    "Ctrl-C is blocked while a row is quantized, and the early return keeps it blocked.",
    "Restore the mask on every way out, or leave signals alone.", "")
ANY(leaks_memory, "leaks-memory", "Q8A8-ENV-7",
    "A call of over a thousand elements allocates scratch memory that it never frees.",
    "Free it, or use the stack.", "")
ANY(leaks_by_turns, "leaks-by-turns", "Q8A8-ENV-7",
    "Scratch memory is allocated anew where the length changes, and the old one is never freed.",
    "Free the old one, or keep one that is large enough.", "")
ANY(leaks_by_thread, "leaks-by-thread", "Q8A8-ENV-7",
    "Each thread has scratch memory of its own, which is not freed when the thread ends.",
    "Free it in a destructor (pthread_key_create), or use the stack.", "")
ANY(loses_signal_flags, "loses-signal-flags", "Q8A8-ENV-6",
    "The first call tries an instruction under a handler of its own, and puts the caller's back without its flags.",
    "Ask cpuid, or put back what sigaction has given.", "")
ANY(table_of_modes, "table-of-modes", "Q8A8-ENV-2",
    "A table of halves is filled by the first call, wrongly where that comes with flush-to-zero set.",
    "Fill it by integers, or before the first call.", "")
ANY(stack_by_length, "stack-by-length", "Q8A8-ENV-8",
    "The row is copied to an array on the stack, of any length.",
    "Copy a fixed number of blocks at a time.", "")
ANY(shared_slots, "shared-slots", "Q8A8-ENV-3",
    "Sums are kept in slots by the number of the thread, which every sixteenth shares.",
    "Use a local variable.", "")
ANY(busy_order, "busy-order", "Q8A8-ENV-3",
    "While another thread is in its call, the blocks are added in another order.",
    "Let no lock that is taken decide on the order.", "")
ANY(order_by_variable, "order-by-variable", "Q8A8-ENV-2",
    "Where OMP_NUM_THREADS is eight or more, the blocks are added in another order.",
    "Let nothing outside the arguments decide on the order.", "")
ANY(segv_long, "crash-long", "Q8A8-ENV-4",
    "A row of 257 blocks ends in a null pointer.",
    "Bound no table by a number of blocks.", "")
ANY(illegal_tail, "crash-tail", "Q8A8-ENV-4",
    "A tail of three blocks runs an instruction that the processor has not.",
    "Ask the processor for what every path needs.", "")
ANY(assert_nonzero, "crash-zero-block", "Q8A8-ENV-4",
    "An assertion requires that no block is all zeros.",
    "A block of zeros is legal: its scale is +0.", "")
ANY(nan_index, "crash-nan", "Q8A8-QNT-11",
    "A NaN becomes the index of a table.",
    "Convert before indexing, by an instruction that takes any float.", "")
ANY(exits, "exits", "Q8A8-ENV-4",
    "A vector of one element ends the program with status 0.",
    "Compute every size.", "")
ANY(hangs_long, "hang-long", "Q8A8-ENV-4",
    "Blocks are counted in eight bits, which never reach 256.",
    "Count in int64_t, as k is.", "")
ANY(hangs_nan, "hang-nan", "Q8A8-QNT-11",
    "A loop halves an element until it is small enough, which a NaN never is.",
    "Let no loop's end depend on an element.", "")
ANY(deadlock, "hang-lock", "Q8A8-ENV-4",
    "The early return for an empty row keeps a lock: the next call waits for ever.",
    "Release the lock on every way out, or do without.", "")
ANY(scribbles, "scribbles", "Q8A8-ENV-4",
    "For an empty row, a message goes to file descriptors that the kernel did not open.",
    "Write nothing, or to standard error.", "")
X86(divides, "x86-crash-empty", "Q8A8-ENV-4",
    "An integer is divided by the number of blocks, which may be 0.",
    "Handle n = 0 first.", "")
ANY(short_tail, "short-tail", "Q8A8-DOT-10",
    "Of a tail of three blocks, after groups of four, only two are added.",
    "Loop over the tail, whatever its length.", "")
ANY(odd_dropped, "odd-block-dropped", "Q8A8-DOT-9",
    "Two accumulators take blocks in pairs, and the odd last block goes nowhere.",
    "Add the odd last block after the loop.", "")
X86(sign_trick, "x86-sign-trick", "Q8A8-DOT-1",
    "|x| times y with x's sign: VPSIGNB leaves -128 at -128.",
    "Widen to 16 bits (VPMOVSXBW) and use VPMADDWD.",
    "ggml: mul_sum_i8_pairs_float in AVX2 builds")
X86(saturates, "x86-pairs-saturate", "Q8A8-DOT-1",
    "x + 128 goes to VPMADDUBSW as unsigned: pairs of products saturate at 32767.",
    "Use the offset with VPDPBUSD only, or widen to 16 bits first.", "")
X86(takes_unsigned, "x86-unsigned-operand", "Q8A8-DOT-1",
    "Negative codes of x go to VPMADDUBSW as unsigned ones.",
    "VPMADDUBSW's first operand is unsigned: widen to 16 bits and use VPMADDWD.", "")
X86(narrow, "x86-narrow-sum", "Q8A8-DOT-1",
    "Two products are added in 16 bits before they are widened.",
    "Use VPMADDWD, which adds pairs in 32 bits.", "")
X86(half_folded, "x86-half-folded", "Q8A8-DOT-1",
    "The fold adds the lower 128 bits of the accumulator only.",
    "Add the upper half: _mm256_extracti128_si256(v, 1).", "")
X86(unpermuted, "x86-unpermuted", "Q8A8-LAY-2",
    "Packing within halves of 128 bits leaves groups of four codes in another order.",
    "Permute after the packs: _mm256_permutevar8x32_epi32.", "")
X86(estimated, "x86-estimated-inverse", "Q8A8-QNT-3",
    "The inverse is RCPPS's estimate.",
    "Divide.", "")
X86(cut_off, "x86-half-cut-off", "Q8A8-HLF-1",
    "VCVTPS2PH rounds towards zero.",
    "Round to nearest: _MM_FROUND_TO_NEAREST_INT.", "")
X86(aligned_load, "x86-aligned-load", "Q8A8-MEM-4",
    "Elements are loaded by MOVAPS, which traps where they are at no multiple of 16 bytes.",
    "Use MOVUPS (_mm_loadu_ps): floats need 4-byte alignment.", "")
X86(aligned_store, "x86-aligned-store", "Q8A8-MEM-4",
    "Codes are stored by MOVAPS, which traps where they are at no multiple of 16 bytes.",
    "Use MOVUPS (_mm_storeu_si128): int8 output needs no alignment.", "")
ARM(two_in_16_bits, "arm-two-in-16-bits", "Q8A8-DOT-1",
    "SMLAL adds a second product in 16 bits: -128 * -128 twice overflows.",
    "Add each SMULL by SADALP.", "")
ARM(all_in_16_bits, "arm-all-in-16-bits", "Q8A8-DOT-1",
    "All products of a block are added in 16 bits.",
    "Add each SMULL by SADALP.", "")
ARM(widens_unsigned, "arm-widens-unsigned", "Q8A8-DOT-1",
    "Pairs of products are widened as unsigned (UADALP).",
    "Use SADALP (vpadalq_s16).", "")
ARM(low_twice, "arm-low-half-twice", "Q8A8-DOT-1",
    "The lower half of each register is multiplied twice, the upper half never.",
    "Use SMULL2 (vmull_high_s8) for the upper half.", "")
ARM(halves_swapped, "arm-halves-swapped", "Q8A8-DOT-1",
    "The halves of y are loaded the other way round.",
    "Load x and y alike.", "")
ARM(fold_short, "arm-fold-short", "Q8A8-DOT-1",
    "Lanes 2 and 3 of the accumulator are not folded.",
    "Fold by ADDV (vaddvq_s32).", "")
ARM(dot_unsigned, "arm-dot-unsigned", "Q8A8-DOT-1",
    "UDOT takes the codes as unsigned.",
    "Use SDOT (vdotq_s32).", "")
ARM(swapped, "arm-matrix-swapped", "Q8A8-DOT-6",
    "Lanes 1 and 2 of SMMLA's result are stored in each other's place.",
    "Lane 1 is x0.y1 and goes to s[bs], lane 2 is x1.y0 and goes to s[1].", "")
ARM(matrix_unsigned, "arm-matrix-unsigned", "Q8A8-DOT-6",
    "USMMLA takes the codes of x as unsigned, with nrc = 2.",
    "Use SMMLA (vmmlaq_s32).", "")
ARM(to_even, "arm-rounds-to-even", "Q8A8-QNT-4",
    "FCVTNS rounds halves to even.",
    "Use FCVTAS (vcvtaq_s32_f32).",
    "ggml: quantize_row_q8_0 for Arm, vcvtnq_s32_f32")
ARM(to_zero, "arm-rounds-to-zero", "Q8A8-QNT-4",
    "FCVTZS cuts off, as a C cast does.",
    "Use FCVTAS (vcvtaq_s32_f32).", "")
ARM(floor_half, "arm-floor-of-half-more", "Q8A8-QNT-4",
    "FCVTMS of the element plus a half rounds negative halves up.",
    "Use FCVTAS (vcvtaq_s32_f32).", "")
ARM(estimated, "arm-estimated-inverse", "Q8A8-QNT-3",
    "The inverse is FRECPE's estimate after one step of Newton's.",
    "Divide.", "")
ANY(matrix_over_read, "matrix-over-read", "Q8A8-MEM-1",
    "Where a matrix product's rows of w fill no tile of eight, the row after the last one is loaded.",
    "Load the rows that there are: clamp the last tile.", "")
ANY(matrix_over_write, "matrix-over-write", "Q8A8-MEM-2",
    "A matrix product's outputs are stored four at a time, those behind the last one too.",
    "Store the last few one by one, or masked.", "")
ANY(matrix_edge, "matrix-edge", "Q8A8-MUL-6",
    "In a matrix product, rows of w that fill no tile of eight all get the first one's outputs.",
    "Compute what does not fill a tile, too.", "")
ANY(matrix_shared, "matrix-shared", "Q8A8-MUL-6",
    "A large matrix product is shared by two threads, which leave the last of an odd number of rows.",
    "Round the share of one of them up.", "")
ANY(matrix_piled, "matrix-piled", "Q8A8-ENV-8",
    "A matrix product takes stack for each row of x, and gives it back when it returns.",
    "Take it before the loop, or in a function that the loop calls.", "")
ANY(matrix_padded, "matrix-padded", "Q8A8-ENV-2",
    "An odd number of blocks is padded with codes of 0, under a scale that an earlier call has left.",
    "Write the scale of the padding, too.", "")
ANY(matrix_leaks_empty, "matrix-leaks-empty", "Q8A8-ENV-7",
    "A matrix product without outputs returns before it frees its memory.",
    "Allocate after the early return.", "")
ANY(matrix_repacked, "matrix-repacked", "Q8A8-ENV-2",
    "A matrix product repacks w where it sees an address for the first time, and uses the copy from then on.",
    "Repack where the caller asks for it, or remember nothing by address.", "")
ANY(matrix_scratch, "matrix-scratch", "Q8A8-ENV-3",
    "A matrix product quantizes the rows of x in a static buffer.",
    "Use a buffer of the call's own.", "")
