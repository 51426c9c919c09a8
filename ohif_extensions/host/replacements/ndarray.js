// ndarray's views for any number of dimensions without code from text; the same members, the same meaning.
function compileConstructor(dtype, dimension) {
  const constructors = CACHED_CONSTRUCTORS[dtype];
  const generic = dtype === 'generic';
  class View {
    constructor(data, shape, stride, offset) {
      this.data = data;
      this.shape = shape;
      this.stride = stride;
      this.offset = offset | 0;
    }
    get size() {
      return dimension < 1 ? dimension + 1 : this.shape.reduce((product, length) => product * length, 1);
    }
    get order() {
      return dimension < 1 ? [] : order.call(this);
    }
    index(i0, i1, i2) {
      const { stride, offset } = this;
      switch (dimension) {
        case -1:
          return -1;
        case 0:
          return offset;
        case 1:
          return offset + stride[0] * i0;
        case 2:
          return offset + stride[0] * i0 + stride[1] * i1;
        case 3:
          return offset + stride[0] * i0 + stride[1] * i1 + stride[2] * i2;
        default: {
          let at = offset;
          for (let axis = 0; axis < dimension; axis++) {
            at += stride[axis] * arguments[axis];
          }
          return at;
        }
      }
    }
    get() {
      if (dimension < 0) {
        return undefined;
      }
      const at = this.index.apply(this, arguments);
      return generic ? this.data.get(at) : this.data[at];
    }
    set() {
      if (dimension < 0) {
        return undefined;
      }
      const value = arguments[dimension];
      const at = this.index.apply(this, arguments);
      return generic ? this.data.set(at, value) : (this.data[at] = value);
    }
    valueOf() {
      return dimension === 0 ? this.get() : this;
    }
    hi(...to) {
      const shape = this.shape.map((length, axis) => (typeof to[axis] !== 'number' || to[axis] < 0 ? length : to[axis] | 0));
      return new View(this.data, shape, [...this.stride], this.offset);
    }
    lo(...from) {
      let offset = this.offset;
      const shape = this.shape.map((length, axis) => {
        if (typeof from[axis] !== 'number' || from[axis] < 0) {
          return length;
        }
        const skipped = from[axis] | 0;
        offset += this.stride[axis] * skipped;
        return length - skipped;
      });
      return new View(this.data, shape, [...this.stride], offset);
    }
    step(...steps) {
      let offset = this.offset;
      const shape = [...this.shape];
      const stride = [...this.stride];
      for (let axis = 0; axis < dimension; axis++) {
        if (typeof steps[axis] === 'number') {
          const step = steps[axis] | 0;
          if (step < 0) {
            offset += stride[axis] * (shape[axis] - 1);
            shape[axis] = Math.ceil(-shape[axis] / step);
          } else {
            shape[axis] = Math.ceil(shape[axis] / step);
          }
          stride[axis] *= step;
        }
      }
      return new View(this.data, shape, stride, offset);
    }
    transpose(...axes) {
      const from = this.shape.map((_, axis) => (axes[axis] === undefined ? axis : axes[axis] | 0));
      return new View(this.data, from.map(axis => this.shape[axis]), from.map(axis => this.stride[axis]), this.offset);
    }
    pick(...at) {
      if (dimension < 0) {
        return null;
      }
      let offset = this.offset;
      const shape = [];
      const stride = [];
      for (let axis = 0; axis < dimension; axis++) {
        if (typeof at[axis] === 'number' && at[axis] >= 0) {
          offset = (offset + this.stride[axis] * at[axis]) | 0;
        } else {
          shape.push(this.shape[axis]);
          stride.push(this.stride[axis]);
        }
      }
      return constructors[shape.length + 1](this.data, shape, stride, offset);
    }
  }
  View.prototype.dtype = dtype;
  View.prototype.dimension = dimension;
  return (data, shape, stride, offset) => new View(data, [...(shape ?? [])], [...(stride ?? [])], offset ?? 0);
}
