#include "glue/pages.h"

#include <new>
#include <utility>

#include "glue/error.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace gr {
namespace {

constexpr size_t kHuge = size_t{2} << 20;
constexpr std::align_val_t kLine{64};

}  // namespace

Pages::Pages(size_t bytes) {
  const size_t wanted = checked_add(bytes, kSlack, "weights");
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // Fresh from the system: memory that an allocator hands out again is there in small pages already, and stays so.
  if (bytes >= kHuge) {
    const size_t taken = checked_add(wanted, kHuge, "weights");
    void* start = mmap(nullptr, taken, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start != MAP_FAILED) {
      start_ = start;
      bytes_ = taken;
      const size_t past = reinterpret_cast<uintptr_t>(start) % kHuge;
      data_ = static_cast<uint8_t*>(start) + (past == 0 ? 0 : kHuge - past);
      // A wish, for whole huge pages only: one that is touched is there as a whole.
      static_cast<void>(madvise(data_, bytes / kHuge * kHuge, MADV_HUGEPAGE));
      return;
    }
  }
#endif
  data_ = static_cast<uint8_t*>(::operator new(wanted, kLine));
}

Pages::~Pages() {
#if defined(__linux__)
  if (start_ != nullptr) {
    munmap(start_, bytes_);
    return;
  }
#endif
  if (data_ != nullptr) ::operator delete(data_, kLine);
}

Pages::Pages(Pages&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      start_(std::exchange(other.start_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Pages& Pages::operator=(Pages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(start_, other.start_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace gr
