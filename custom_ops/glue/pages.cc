#include "glue/pages.h"

#include <new>
#include <utility>

#include "glue/error.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace gr {
namespace {

constexpr size_t kLine = 64, kHuge = size_t{2} << 20;

}  // namespace

Pages::Pages(size_t bytes) {
  // What does not fill a huge page is left to small ones: a page that is touched is there as a whole.
  alignment_ = bytes >= kHuge ? kHuge : kLine;
  data_ = static_cast<uint8_t*>(
      ::operator new(checked_add(bytes, kSlack, "weights"), static_cast<std::align_val_t>(alignment_)));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // A wish: where it is refused the pages are small ones, and nothing else changes.
  if (alignment_ == kHuge) static_cast<void>(madvise(data_, bytes / kHuge * kHuge, MADV_HUGEPAGE));
#endif
}

Pages::~Pages() {
  if (data_ != nullptr) ::operator delete(data_, static_cast<std::align_val_t>(alignment_));
}

Pages::Pages(Pages&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), alignment_(std::exchange(other.alignment_, 0)) {}

Pages& Pages::operator=(Pages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(alignment_, other.alignment_);
  return *this;
}

}  // namespace gr
