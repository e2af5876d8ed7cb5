// Large tensors that are about to be written.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <vector>

namespace attnlstm {

using at::Tensor;

// The system hands out memory in pages of 4 KiB, which for large tensors costs a tenth of a training
// step; asked for it, it does so in pages of 2 MiB.
inline Tensor empty_in_huge_pages(at::IntArrayRef sizes, const at::TensorOptions& options) {
  Tensor tensor = at::empty(sizes, options);
#ifdef __linux__
  constexpr uintptr_t page = 4096, huge_page = 2 * 1024 * 1024;
  const auto begin = reinterpret_cast<uintptr_t>(tensor.mutable_data_ptr());
  const uintptr_t first = (begin + page - 1) / page * page;
  const uintptr_t last = (begin + tensor.nbytes()) / page * page;
  if (last > first + huge_page) {
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  }
#endif
  return tensor;
}

// Memory that outlives a call. The C library gives large blocks back to the system as soon as they are
// free, and to get them anew, filled with zeros page by page, costs another tenth of a training step.
constexpr int64_t kKeptBytes = 4 * 1024 * 1024;
constexpr int64_t kMostKeptBytes = 512 * 1024 * 1024;  // of all blocks

class KeptMemory {
 public:
  static KeptMemory& instance() {
    static auto* const memory = new KeptMemory;  // never deleted: torch may end before this library
    return *memory;
  }

  // A tensor in a block that nothing else is in.
  Tensor empty(at::IntArrayRef sizes, const at::TensorOptions& options) {
    const int64_t bytes = c10::multiply_integers(sizes) * int64_t(options.dtype().itemsize());
    if (bytes < kKeptBytes || bytes > kMostKeptBytes) {
      return empty_in_huge_pages(sizes, options);
    }
    const std::lock_guard lock(mutex_);
    auto block = std::find_if(blocks_.begin(), blocks_.end(), [bytes](const Tensor& candidate) {
      const int64_t size = candidate.nbytes();
      return is_free(candidate) && bytes <= size && size <= 2 * bytes;
    });
    if (block == blocks_.end()) {
      release_free_blocks();
      int64_t kept = bytes;
      for (const Tensor& other : blocks_) {
        kept += other.nbytes();
      }
      if (kept > kMostKeptBytes) {
        return empty_in_huge_pages(sizes, options);
      }
      block = blocks_.insert(
          blocks_.end(), empty_in_huge_pages({bytes}, options.dtype(at::kByte)));
    }
    return at::empty({0}, options).set_(block->storage(), 0, sizes);
  }

  void release() {
    const std::lock_guard lock(mutex_);
    release_free_blocks();
  }

 private:
  static bool is_free(const Tensor& block) { return block.storage().use_count() == 1; }

  void release_free_blocks() { std::erase_if(blocks_, is_free); }

  std::mutex mutex_;
  std::vector<Tensor> blocks_;
};

}  // namespace attnlstm
