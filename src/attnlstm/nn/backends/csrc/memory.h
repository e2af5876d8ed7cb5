// How memory is obtained for tensors that are about to be written.
//
//     empty, zeros           small tensors, without the cost of the dispatcher
//     empty_in_huge_pages    large tensors that are returned to the caller
//     KeptMemory             large tensors that live from a forward to its backward; their memory is reused

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

// at::empty and at::zeros of CPU tensors. They bypass the dispatcher, which takes longer than the
// allocation, and the headers of torch's operators, which take a quarter of the time to compile.
inline Tensor empty(at::IntArrayRef sizes, const at::TensorOptions& options) {
  return Tensor(at::detail::empty_cpu(sizes, options));
}

inline Tensor zeros(at::IntArrayRef sizes, const at::TensorOptions& options) {
  const Tensor tensor = empty(sizes, options);
  std::fill_n(static_cast<char*>(tensor.mutable_data_ptr()), tensor.nbytes(), 0);
  return tensor;
}

// By default the system provides memory in pages of 4 KiB, which for large tensors costs a tenth of a
// training step. On request it uses pages of 2 MiB.
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

constexpr int64_t kKeptBytes = 4 * 1024 * 1024;        // the smallest block that is kept
constexpr int64_t kMostKeptBytes = 512 * 1024 * 1024;  // of all blocks together

// Blocks of memory that are kept between calls. The C library returns large blocks to the system as soon
// as they are free. Getting them again, filled with zeros page by page, costs another tenth of a training
// step.
class KeptMemory {
 public:
  static KeptMemory& instance() {
    // Never deleted, because torch may be unloaded before this library.
    static auto* const memory = new KeptMemory;
    return *memory;
  }

  // Returns a tensor in a block of its own. The block becomes free when the tensor's last owner is gone.
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

  // Returns all free blocks to the system.
  void release() {
    const std::lock_guard lock(mutex_);
    release_free_blocks();
  }

 private:
  struct Block {
    int64_t size;
    at::DataPtr data;
  };

  // Returns a free block that is large enough but not much too large, or a new one; nullptr if there would
  // be too many bytes.
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
  int64_t size_ = 0;  // the bytes of all blocks, free or in use
};

}  // namespace attnlstm
