// Tensors that are about to be written.

#pragma once

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/CPUAllocator.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace attnlstm {

using at::Tensor;

// at::empty and at::zeros of CPU tensors, but found without the dispatcher, which takes longer than to get
// the memory, and without the headers of torch's operators, which are a quarter of the time to compile.
inline Tensor empty(at::IntArrayRef sizes, const at::TensorOptions& options) {
  return Tensor(at::detail::empty_cpu(sizes, options));
}

inline Tensor zeros(at::IntArrayRef sizes, const at::TensorOptions& options) {
  const Tensor tensor = empty(sizes, options);
  std::fill_n(static_cast<char*>(tensor.mutable_data_ptr()), tensor.nbytes(), 0);
  return tensor;
}

// The system hands out memory in pages of 4 KiB, which for large tensors costs a tenth of a training
// step; asked for it, it does so in pages of 2 MiB.
inline void advise_huge_pages(void* data, int64_t bytes) {
#ifdef __linux__
  constexpr uintptr_t page = 4096, huge_page = 2 * 1024 * 1024;
  const auto begin = reinterpret_cast<uintptr_t>(data);
  const uintptr_t first = (begin + page - 1) / page * page, last = (begin + bytes) / page * page;
  if (last > first + huge_page) {
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  }
#endif
}

inline Tensor empty_in_huge_pages(at::IntArrayRef sizes, const at::TensorOptions& options) {
  Tensor tensor = empty(sizes, options);
  advise_huge_pages(tensor.mutable_data_ptr(), tensor.nbytes());
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

  // A tensor in a block of its own, which comes back when the last reader of the tensor is gone.
  Tensor empty(at::IntArrayRef sizes, const at::TensorOptions& options) {
    const int64_t bytes = c10::multiply_integers(sizes) * int64_t(options.dtype().itemsize());
    const auto block = bytes < kKeptBytes ? nullptr : take(bytes);
    if (!block) {
      return empty_in_huge_pages(sizes, options);
    }
    const auto give_back = [this, block](void*) {
      const std::lock_guard lock(mutex_);
      free_.push_back(block);
    };
    return at::from_blob(block->data.get(), sizes, give_back, options);
  }

  void release() {
    const std::lock_guard lock(mutex_);
    release_free_blocks();
  }

 private:
  struct Block {
    int64_t size;
    at::DataPtr data;
  };

  // nullptr where that would be too much.
  std::shared_ptr<Block> take(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(free_.begin(), free_.end(), [bytes](const auto& block) {
      return bytes <= block->size && block->size <= 2 * bytes;
    });
    if (found != free_.end()) {
      const std::shared_ptr<Block> block = *found;
      free_.erase(found);
      return block;
    }
    release_free_blocks();
    if (size_ + bytes > kMostKeptBytes) {
      return nullptr;
    }
    const auto block = std::make_shared<Block>(Block{bytes, c10::GetCPUAllocator()->allocate(bytes)});
    advise_huge_pages(block->data.get(), bytes);
    size_ += bytes;
    return block;
  }

  void release_free_blocks() {
    for (const auto& block : free_) {
      size_ -= block->size;
    }
    free_.clear();
  }

  std::mutex mutex_;
  std::vector<std::shared_ptr<Block>> free_;
  int64_t size_ = 0;  // bytes of all blocks
};

}  // namespace attnlstm
