// Which thread does what, and when.

#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

namespace attnlstm {

// How many threads may work; a region that is parallel already gets no more of them.
inline int64_t count_threads() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

// So many parts at least make a task where it is long enough: fine enough to share them out.
constexpr int64_t kParts = 4;

// Advances tasks until nothing remains of any. A task is made of parts that follow each other:
// `remaining()` says how much there is to do, and `advance()` does the next part. A thread takes up
// the task of which the most remains, so that with more tasks than threads all of them have work to
// the end, also where one core is slower than another, as the cores of shared machines are.
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

// Threads that go through the time steps together, each with its share of the hidden units.
class Barrier {
 public:
  explicit Barrier(int64_t members) : members_(members) {}

  // Returns when all members have come; `count` of them do with this call.
  void wait(int64_t count) {
    const int64_t passed = passed_.load(std::memory_order_acquire);
    if (waiting_.fetch_add(count, std::memory_order_acq_rel) + count == members_) {
      waiting_.store(0, std::memory_order_relaxed);
      passed_.store(passed + 1, std::memory_order_release);
      return;
    }
    // The others come within microseconds, unless another program has their cores.
    for (int64_t tries = 0; passed_.load(std::memory_order_acquire) == passed; ++tries) {
      if (is_broken_.load(std::memory_order_acquire)) {
        std::rethrow_exception(error_);
      }
      if (tries >= 1000) {
        std::this_thread::yield();
      }
    }
  }

  // For a member that will not come: the others end with its error, too.
  void give_up(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (!error_) {
      error_ = error;
      is_broken_.store(true, std::memory_order_release);
    }
  }

 private:
  const int64_t members_;
  std::atomic<int64_t> waiting_{0}, passed_{0};
  std::atomic<bool> is_broken_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
};

// Those members of a team, from `first` to before `last`, that one thread is.
struct Team {
  int64_t first = 0, last = 1, members = 1;
  Barrier* barrier = nullptr;

  // Its share of `count` things.
  int64_t begin(int64_t count) const { return count * first / members; }
  int64_t end(int64_t count) const { return count * last / members; }
  void wait() const {
    if (members > last - first) {
      barrier->wait(last - first);
    }
  }
};

// Runs the task make(team) in this many threads, all of them at the same time.
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

// A share of a batch: sequences of one direction. Sequences do not see each other, so that slices never
// wait for one another.
struct Slice {
  int64_t direction;
  std::vector<int64_t> ranks;  // rising

  int64_t count() const { return ranks.size(); }
  // How many of them run at a time step with this many sequences.
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

// Tasks beyond one for each thread are for batches whose gates take more than this: a thread finds
// what it wrote of less in its own cache.
constexpr int64_t kBalancedBytes = 2 * 1024 * 1024;

// With fewer sequences at a time step than this a slice reads the weights too often for what it
// computes.
constexpr int64_t kSliceSequences = 8;

// Slices may have this many times the steps of the average one.
constexpr double kImbalance = 1.05;

// Deals out the ranks, of falling length, to slices. Neighbours go to the same one as far as the balance
// allows: they lie next to each other in memory, which two cores had better not write to in turn.
inline std::vector<Slice> deal(
    int64_t direction, const std::vector<int64_t>& lengths, int64_t count) {
  const int64_t batch_size = lengths.size();
  const int64_t all = std::accumulate(lengths.begin(), lengths.end(), int64_t(0));
  for (int64_t neighbours = (batch_size + count - 1) / count;; neighbours /= 2) {
    std::vector<Slice> slices(count, Slice{direction, {}});
    std::vector<int64_t> steps(count);
    for (int64_t rank = 0; rank < batch_size;) {
      const int64_t least = std::min_element(steps.begin(), steps.end()) - steps.begin();
      for (const int64_t end = std::min(batch_size, rank + neighbours); rank < end; ++rank) {
        slices[least].ranks.push_back(rank);
        steps[least] += lengths[rank];
      }
    }
    if (neighbours <= 1 || *std::max_element(steps.begin(), steps.end()) * count <= kImbalance * all) {
      return slices;
    }
  }
}

// The slices of a batch: one for each thread, and where that costs little one more to balance with.
// What is computed of a sequence does not depend on the slice that it is in, so that any number of
// threads gives the same results.
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
