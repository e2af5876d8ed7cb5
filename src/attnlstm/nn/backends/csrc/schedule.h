// Which thread does what, and when.
//
// Work comes as tasks, each a chain of parts that have to run one after the other. There are two ways to
// run tasks on several threads:
//
//     advance_all         each task is advanced by one thread at a time; threads never wait for each other
//     advance_together    all threads advance one task, each its share of it, and meet at barriers
//
// Neither changes a result: what is computed for a sequence does not depend on the number of threads.

#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <mutex>
#include <numeric>
#include <vector>

namespace attnlstm {

// The number of threads that may work. Inside a parallel region there is only the current one.
inline int64_t count_threads() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

// A task that is long enough has at least this many parts, so that threads can balance their load.
constexpr int64_t kParts = 4;

// Advances tasks until they are all finished. `remaining()` returns how much of a task there is to do, and
// `advance()` does its next part. A free thread chooses the task with the most work remaining. With more
// tasks than threads, all threads therefore have work until the end, even if one core is slower than
// another, as is common on shared machines.
template <typename Task>
void advance_all(std::vector<Task>& tasks) {
  std::mutex mutex;
  std::vector<bool> is_taken(tasks.size());
  const auto work = [&] {
    std::unique_lock lock(mutex);
    while (true) {
      size_t chosen = tasks.size();
      for (size_t number = 0; number < tasks.size(); ++number) {
        if (!is_taken[number] &&
            tasks[number].remaining() > (chosen < tasks.size() ? tasks[chosen].remaining() : 0)) {
          chosen = number;
        }
      }
      if (chosen == tasks.size()) {
        return;
      }
      is_taken[chosen] = true;
      lock.unlock();
      tasks[chosen].advance();
      lock.lock();
      is_taken[chosen] = false;
    }
  };
  const int64_t threads = std::min<int64_t>(count_threads(), tasks.size());
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (; begin < end; ++begin) {
      work();
    }
  });
}

// How long a thread waits actively, which is about what going to sleep and waking up costs. The others arrive
// within microseconds, unless another program occupies their cores; then they need this core more.
constexpr std::chrono::microseconds kSpin(100);

// Tells the processor that this thread waits.
inline void pause() {
#ifdef __x86_64__
  __builtin_ia32_pause();
#endif
}

// Where the members of a team wait for each other.
class Barrier {
 public:
  explicit Barrier(int64_t members) : members_(members) {}

  // Returns when all members have arrived. This call stands for `count` of them. Fails with the error of a
  // member that gave up.
  void wait(int64_t count) {
    const int passed = passed_.load(std::memory_order_acquire);
    if (waiting_.fetch_add(count, std::memory_order_acq_rel) + count == members_) {
      waiting_.store(0, std::memory_order_relaxed);
      pass();
      return;
    }
    const auto deadline = std::chrono::steady_clock::now() + kSpin;
    while (!has_failed_.load(std::memory_order_acquire) &&
           passed_.load(std::memory_order_acquire) == passed) {
      if (std::chrono::steady_clock::now() < deadline) {
        pause();
      } else {
        passed_.wait(passed, std::memory_order_acquire);
      }
    }
    if (has_failed_.load(std::memory_order_acquire)) {
      std::rethrow_exception(error_);
    }
  }

  // Called by a member that failed and will not arrive.
  void give_up(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (!error_) {
      error_ = error;
      has_failed_.store(true, std::memory_order_release);
      pass();
    }
  }

 private:
  // Wakes the members that wait.
  void pass() {
    passed_.fetch_add(1, std::memory_order_release);
    passed_.notify_all();
  }

  const int64_t members_;
  std::atomic<int64_t> waiting_{0};
  std::atomic<int> passed_{0};  // an int, for which waiting is a single call of the system
  std::atomic<bool> has_failed_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
};

// The members of a team, from `first` up to but not including `last`, that one thread stands for. By
// default a team of one, which has all the work.
struct Team {
  int64_t first = 0, last = 1, members = 1;
  Barrier* barrier = nullptr;

  // The range of its share of `count` items.
  int64_t begin(int64_t count) const { return count * first / members; }
  int64_t end(int64_t count) const { return count * last / members; }
  void wait() const {
    if (members > last - first) {
      barrier->wait(last - first);
    }
  }
};

// Runs the task make(team) in this many threads at the same time.
template <typename Make>
void advance_together(int64_t members, Make make) {
  Barrier barrier(members);
  at::parallel_for(0, members, 1, [&](int64_t first, int64_t last) {
    try {
      auto task = make(Team{first, last, members, &barrier});
      while (task.remaining() > 0) {
        task.advance();
      }
    } catch (...) {
      barrier.give_up(std::current_exception());
      throw;
    }
  });
}

// Some of a batch's sequences, read in one direction. Sequences are independent of each other, so slices
// never wait for each other.
struct Slice {
  int64_t direction;
  std::vector<int64_t> ranks;  // ascending

  int64_t count() const { return ranks.size(); }
  // The number of its sequences that run at a time step at which this many sequences of the batch do.
  int64_t count(int64_t running) const {
    return std::lower_bound(ranks.begin(), ranks.end(), running) - ranks.begin();
  }
  int64_t steps(const std::vector<int64_t>& lengths) const {
    int64_t steps = 0;
    for (const int64_t rank : ranks) {
      steps += lengths[rank];
    }
    return steps;
  }
};

// Batches whose gates take no more than this get one task per thread. A thread then finds what it wrote
// in its own cache, which is worth more than balance.
constexpr int64_t kBalancedBytes = 2 * 1024 * 1024;

// A slice with fewer sequences at a time step than this reads the weights too often for the amount that it
// computes.
constexpr int64_t kSliceSequences = 8;

// The largest slice may have this many times the steps of the average slice.
constexpr double kImbalance = 1.05;

// Distributes the ranks over `count` slices with about equally many steps. Neighbouring ranks stay in the
// same slice as far as balance allows, because they are neighbors in memory too, where two cores should
// not write alternately.
inline std::vector<Slice> deal(
    int64_t direction, const std::vector<int64_t>& lengths, int64_t count) {
  const int64_t batch_size = lengths.size();
  const int64_t all = std::accumulate(lengths.begin(), lengths.end(), int64_t(0));
  for (int64_t neighbors = (batch_size + count - 1) / count;; neighbors /= 2) {
    std::vector<Slice> slices(count, Slice{direction, {}});
    std::vector<int64_t> steps(count);
    for (int64_t rank = 0; rank < batch_size;) {
      const int64_t least = std::min_element(steps.begin(), steps.end()) - steps.begin();
      for (const int64_t end = std::min(batch_size, rank + neighbors); rank < end; ++rank) {
        slices[least].ranks.push_back(rank);
        steps[least] += lengths[rank];
      }
    }
    if (neighbors <= 1 || *std::max_element(steps.begin(), steps.end()) * count <= kImbalance * all) {
      return slices;
    }
  }
}

// Returns the slices of a batch: one for each thread, and if that costs little, one more per direction for
// balance.
inline std::vector<Slice> slices_of(
    int64_t directions, const std::vector<int64_t>& lengths, int64_t gate_bytes) {
  const int64_t threads = count_threads(), batch_size = lengths.size();
  int64_t count = (threads + directions - 1) / directions;
  const int64_t steps = std::accumulate(lengths.begin(), lengths.end(), int64_t(0));
  const int64_t longest = batch_size > 0 ? lengths[0] : 0;
  if (threads > 1 && directions * count <= threads && gate_bytes > kBalancedBytes &&
      steps >= (count + 1) * kSliceSequences * longest) {
    ++count;
  }
  count = std::min(count, std::max<int64_t>(batch_size, 1));
  std::vector<Slice> slices;
  for (int64_t direction = 0; direction < directions; ++direction) {
    for (Slice& slice : deal(direction, lengths, count)) {
      slices.push_back(std::move(slice));
    }
  }
  return slices;
}

}  // namespace attnlstm
